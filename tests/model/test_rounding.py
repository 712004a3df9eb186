"""Rows of inner stages come in few sizes, and what was added for that enters nothing."""

import pytest
import torch
from torch import Tensor, nn

from hnet_lm.config import HNetConfig
from hnet_lm.losses import next_byte_loss, ratio_loss
from hnet_lm.model import HNetLM, HNetOutput, rounding
from hnet_lm.sequences import Sequences

ONE_STAGE = {"arch_layout": ["m1", ["T1"], "m1"], "d_model": [64, 64], "d_intermediate": [0, 64]}
TWO_STAGES = {
    "arch_layout": ["m1", ["m1", ["T1"], "m1"], "m1"],
    "d_model": [64, 64, 64],
    "d_intermediate": [0, 0, 64],
}
ATTENTION = {"num_heads": [2, 2, 2], "rotary_emb_dim": [8, 8, 8], "window_size": [-1, -1, -1]}
LENGTHS = (700, 0, 1, 411, 288)


def model_of(layout: dict[str, object]) -> HNetLM:
    sizes = len(layout["d_model"])  # pyright: ignore[reportArgumentType]  a list
    config = {
        **layout,
        "vocab_size": 256,
        "ssm_cfg": {"chunk_size": 64, "d_conv": 4, "d_state": 8, "expand": 1},
        "attn_cfg": {key: values[:sizes] for key, values in ATTENTION.items()},
        "tie_embeddings": False,
    }
    torch.manual_seed(0)
    model = HNetLM(HNetConfig.from_dict(config))
    with torch.no_grad():  # routers that start as identities hardly cut random vectors
        for name, parameter in model.named_parameters():
            if "_proj" in name and "routing" in name:
                parameter.normal_()
    return model


def ids_of(lengths: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Sequences]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (sum(lengths),), generator=generator), Sequences.from_lengths(lengths)


def loss_of(out: HNetOutput, ids: Tensor) -> Tensor:
    return next_byte_loss(out.logits, ids) + sum((ratio_loss(each, 3.0) for each in out.routings), torch.zeros(()))


@pytest.mark.parametrize("layout", [ONE_STAGE, TWO_STAGES])
def test_copies_enter_no_result_and_no_gradient(layout: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(layout).double()
    ids, seqs = ids_of(LENGTHS)
    results = []
    for fewest in (rounding.FEWEST, 1 << 40):
        monkeypatch.setattr(rounding, "FEWEST", fewest)
        model.zero_grad()
        out = model(ids, seqs)
        loss_of(out, ids).backward()
        grads = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
        results.append((out, grads))
    (rounded, its_grads), (plain, grads) = results
    torch.testing.assert_close(rounded.logits, plain.logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(its_grads, grads, rtol=1e-9, atol=1e-12)
    assert len(rounded.routings) == len(plain.routings)
    for one, other in zip(rounded.routings, plain.routings, strict=True):
        assert torch.equal(one.is_boundary, other.is_boundary)
        assert torch.equal(one.seqs.cu_seqlens, other.seqs.cu_seqlens)
        torch.testing.assert_close(one.boundary_prob, other.boundary_prob, rtol=0, atol=1e-12)
        torch.testing.assert_close(one.chunks, other.chunks, rtol=0, atol=1e-12)
        assert len(one.chunks) == one.is_boundary.sum()


def sizes_seen(model: HNetLM, batches: list[tuple[Tensor, Sequences]]) -> tuple[set[int], set[int]]:
    """Numbers of rows that the linear maps of the innermost network saw, and numbers of chunks or tokens there were."""
    seen: set[int] = set()
    made: set[int] = set()

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.add(len(inputs[0]))

    for module in model.innermost.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(note)
    for ids, seqs in batches:
        out = model(ids, seqs)
        made.add(int(out.routings[-1].is_boundary.sum()) if out.routings else len(ids))
    return seen, made


def test_a_linear_map_of_an_inner_stage_sees_few_sizes() -> None:
    seen, made = sizes_seen(model_of(ONE_STAGE), [ids_of((1024,), seed) for seed in range(24)])
    assert len(made) > 10
    assert len(seen) <= 4
    assert max(seen) <= 1.07 * max(made)


def test_so_does_one_of_a_model_of_tokens() -> None:
    tokens = model_of({"arch_layout": ["T1"], "d_model": [64], "d_intermediate": [64]})
    seen, made = sizes_seen(tokens, [ids_of((900 + 3 * i,), i) for i in range(20)])
    assert len(made) == 20
    assert len(seen) <= 3


def test_a_state_is_of_the_rows_given() -> None:
    model = model_of(ONE_STAGE).eval()
    ids, seqs = ids_of((700,))
    whole = model(ids, seqs).logits
    first = model(ids[:333], Sequences.from_lengths([333]), model.new_state(1))
    second = model(ids[333:], Sequences.from_lengths([367]), first.state)
    torch.testing.assert_close(torch.cat([first.logits, second.logits]), whole, rtol=0, atol=1e-4)
