"""The model's door: what may be passed in, what comes out, and what is refused with a reason."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences


def config_of(layout: list[Any] | None = None, widths: tuple[int, ...] = (32, 48, 64)) -> HNetConfig:
    num = len(widths)
    return HNetConfig.from_dict(
        {
            "arch_layout": ["m1", ["T1", ["t1"], "m1"], "m1"] if layout is None else layout,
            "d_model": list(widths),
            "d_intermediate": [48] * num,
            "ssm_cfg": {"d_state": 8, "expand": 4},
            "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [8] * num, "window_size": [-1] * num},
        }
    )


@pytest.fixture(scope="module")
def model() -> HNetLM:
    torch.manual_seed(0)
    return HNetLM(config_of()).requires_grad_(False)


@pytest.mark.parametrize("b", [0, 1, 3])
@pytest.mark.parametrize("length", [0, 1, 9])
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "mask"])
def test_rows_come_back_in_their_shape(model: HNetLM, b: int, length: int, masked: bool) -> None:
    mask = torch.ones(b, length, dtype=torch.bool) if masked else None
    out = model(torch.randint(254, (b, length)), attention_mask=mask, state=model.new_state(b))
    assert out.logits.shape == (b, length, 256)
    assert out.routings[0].boundary_prob.shape == (b, length)
    assert out.routings[0].is_boundary.shape == (b, length)
    inner = out.routings[1]
    assert inner.boundary_prob.shape[0] == b
    assert inner.seqs.num_sequences == b
    assert out.state.num_sequences == b


def test_rows_of_equal_length_are_packed_sequences(model: HNetLM) -> None:
    ids = torch.randint(254, (3, 11))
    packed = model(ids.flatten(), Sequences.from_lengths([11] * 3))
    rows = model(ids)
    assert rows.logits.flatten(0, 1).equal(packed.logits)
    assert rows.routings[0].boundary_prob.flatten().equal(packed.routings[0].boundary_prob)
    inner = rows.routings[1]
    assert inner.boundary_prob[inner.valid].equal(packed.routings[1].boundary_prob)


def test_ids_alone_are_one_sequence(model: HNetLM) -> None:
    ids = torch.randint(254, (11,))
    assert model(ids).logits.equal(model(ids, Sequences.from_lengths([11])).logits)


def test_no_state_comes_out_unless_one_went_in(model: HNetLM) -> None:
    ids = torch.randint(254, (5,))
    assert model(ids).state is None
    assert model(ids, state=model.new_state(1)).state is not None


def test_the_first_position_of_every_sequence_is_a_boundary(model: HNetLM) -> None:
    seqs = Sequences.from_lengths([5, 0, 1, 9])
    for routing in model(torch.randint(254, (15,)), seqs).routings:
        first = routing.seqs.nonempty_only().starts
        assert routing.boundary_prob[first].eq(1).all()
        assert routing.is_boundary[first].all()
        assert routing.confidence[first].eq(1).all()


def test_confidence_is_the_probability_of_the_decision(model: HNetLM) -> None:
    (outer, _) = model(torch.randint(254, (40,))).routings
    assert outer.confidence.ge(0.5).all()
    expected = torch.where(outer.is_boundary, outer.boundary_prob, 1 - outer.boundary_prob)
    assert outer.confidence.equal(expected)


ids = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m(ids, Sequences.from_lengths([3, 3])),
            "sequences go with packed (t,) input_ids; (b, l) input_ids take an attention_mask",
        ),
        (lambda m: m(ids[None]), "input_ids must be (t,) or (b, l)"),
        (lambda m: m(ids[0], attention_mask=torch.ones(3).bool()), "an attention_mask only for (b, l); got (3,)"),
        (lambda m: m(ids[0], Sequences.from_lengths([2])), "the sequences have 2 positions, but input_ids has 3"),
        (lambda m: m(ids, attention_mask=torch.ones(2, 4).bool()), "attention_mask is (2, 4), but input_ids is (2, 3)"),
        (lambda m: m(ids, attention_mask=torch.tensor([[1, 0, 1], [1, 1, 1]])), "attention_mask has holes"),
        (lambda m: m(ids, attention_mask=torch.tensor([[1, 1, 1], [0, 1, 0]])), "padded on its left or on its right"),
        (lambda m: m(ids, state=m.new_state(3)), "2 sequences but a state of 3 slots; name the slots they own"),
    ],
)
def test_refused_with_a_reason(model: HNetLM, call: Callable[[HNetLM], object], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 the message is compared below
        call(model)
    assert message in str(raised.value)


def test_parameter_stages() -> None:
    stages = HNetLM(config_of()).parameter_stages()
    expected = {
        "embedding.weight": 0,
        "lm_head.weight": 0,
        "network.encoder.norm.weight": 0,
        "network.routing.q_proj.weight": 0,
        "network.residual_proj.bias": 0,
        "network.decoder.blocks.0.mixer.A_log": 0,
        "network.widen.pad_vector": 1,
        "network.main_network.encoder.blocks.0.mlp.fc1.weight": 1,
        "network.main_network.routing.k_proj.weight": 1,
        "network.main_network.residual_proj.weight": 1,
        "network.main_network.widen.pad_vector": 2,
        "network.main_network.main_network.blocks.0.mixer.qkv_proj.weight": 2,
        "network.main_network.main_network.norm.weight": 2,
    }
    assert {name: stages[name] for name in expected} == expected
    assert stages.keys() == dict(HNetLM(config_of()).named_parameters()).keys()


def test_an_isotropic_model_is_all_stage_0() -> None:
    assert set(HNetLM(config_of(["m1T1"], (32,))).parameter_stages().values()) == {0}


def test_equal_widths_have_no_pad_vector() -> None:
    names = HNetLM(config_of(["m1", ["t1", ["T1"], "m1"], "m1"], (32, 32, 48))).parameter_stages()
    assert [name for name in names if "pad_vector" in name] == ["network.main_network.widen.pad_vector"]


def test_tied_embeddings_share_one_weight() -> None:
    config = HNetConfig.from_dict({**config_of().to_dict(), "tie_embeddings": True})
    model = HNetLM(config)
    assert model.head_weight is model.embedding.weight
    assert "lm_head.weight" not in dict(model.named_parameters())


def test_on_the_meta_device_a_model_takes_no_memory() -> None:
    with torch.device("meta"):
        model = HNetLM(config_of())
    assert all(parameter.is_meta for parameter in model.parameters())
    real = {name: p.shape for name, p in HNetLM(config_of()).named_parameters()}
    assert {name: p.shape for name, p in model.named_parameters()} == real


def test_nothing_but_parameters_is_kept() -> None:
    """No buffers, no hidden copies: what is saved is what is trained."""
    model = HNetLM(config_of())
    assert list(model.buffers()) == []
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_modules_keep_no_state_between_calls(model: HNetLM) -> None:
    first, second = torch.randint(254, (2, 30))
    expected = model(first).logits
    model(second, state=model.new_state(1))
    assert model(first).logits.equal(expected)
