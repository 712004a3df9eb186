"""bfloat16 weights and bfloat16 autocast: what stays in float32, and how far results may move."""

import copy

import pytest
import torch
from torch import Tensor, nn

from hnet_lm.config import HNetConfig
from hnet_lm.losses import next_byte_loss, ratio_loss
from hnet_lm.model import HNetLM
from hnet_lm.model.block import Block
from hnet_lm.model.dynamic_chunking import SmoothingModule
from hnet_lm.model.isotropic import Isotropic
from hnet_lm.model.layers import Float32Linear
from hnet_lm.sequences import Sequences
from hnet_lm.state import tensors

LENGTHS = [40, 0, 1, 23]


@pytest.fixture(scope="module")
def model() -> HNetLM:
    config = HNetConfig.from_dict(
        {
            "arch_layout": ["m1T1", ["M1t1"], "t1m1"],
            "d_model": [64, 96],
            "d_intermediate": [96, 96],
            "ssm_cfg": {"d_state": 8},
            "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [16, 16], "window_size": [9, -1]},
        }
    )
    torch.manual_seed(0)
    return HNetLM(config)


@pytest.fixture(scope="module")
def half(model: HNetLM) -> HNetLM:
    return copy.deepcopy(model).bfloat16().requires_grad_(False)


def seen_types(model: HNetLM, kind: type[nn.Module], run: HNetLM | None = None) -> dict[str, set[torch.dtype]]:
    """The types that went into and came out of every module of a kind."""
    types: dict[str, set[torch.dtype]] = {"in": set(), "out": set()}

    def note(_: nn.Module, inputs: tuple, output: object) -> None:
        types["in"].add(inputs[0].dtype)
        types["out"].add((output[0] if isinstance(output, tuple) else output).dtype)

    hooks = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, kind)]
    assert hooks
    model(torch.randint(254, (30,)))
    for hook in hooks:
        hook.remove()
    return types


def test_bfloat16_the_residual_stream_stays_float32(half: HNetLM) -> None:
    assert seen_types(half, Block) == {"in": {torch.float32}, "out": {torch.float32}}


@torch.no_grad()
def test_bfloat16_small_additions_to_a_large_residual_are_kept(half: HNetLM) -> None:
    block = half.network.get_submodule("encoder.blocks.0")
    x, seqs = 1000 + torch.randn(10, 64), Sequences.from_lengths([10])
    y, _ = block.mixer(block.mixer_norm(x), seqs)
    assert y.abs().max() < 2  # bfloat16 has steps of 4 at 1000
    out, _ = block(x, seqs)
    torch.testing.assert_close(out - x, y.float(), rtol=0, atol=1e-4)


def test_bfloat16_stacks_end_in_the_type_of_the_weights(half: HNetLM) -> None:
    assert seen_types(half, Isotropic)["out"] == {torch.bfloat16}


def test_bfloat16_smoothing_and_the_residual_projection_are_float32(half: HNetLM) -> None:
    assert seen_types(half, SmoothingModule)["out"] == {torch.float32}
    assert seen_types(half, Float32Linear)["out"] == {torch.float32}


def test_bfloat16_outputs(half: HNetLM) -> None:
    out = half(torch.randint(254, (64,)), Sequences.from_lengths(LENGTHS))
    assert out.logits.dtype == torch.bfloat16
    assert out.routings[0].boundary_prob.dtype == torch.float32
    assert out.logits.isfinite().all()
    assert next_byte_loss(out.logits, torch.randint(254, (64,))).dtype == torch.float32


def test_bfloat16_state_types(half: HNetLM) -> None:
    """The recurrences are carried in float32, keys, values and vectors as they were computed."""
    state = half(torch.randint(254, (5,)), state=half.new_state(1)).state
    for new, used in zip(tensors(half.new_state(1)), tensors(state), strict=True):
        assert new.dtype == used.dtype
    assert state.smoothing.z.dtype == torch.float32
    assert state.encoder.blocks[0].ssm.dtype == torch.float32
    assert state.encoder.blocks[1].keys.dtype == torch.bfloat16


def forced(model: HNetLM) -> HNetLM:
    """The same model with a router that cuts where the highest bit of the byte changes, whatever the rounding.

    The first entry of an embedding says that bit, louder than anything a block adds, and routing looks at nothing else.
    """
    model = copy.deepcopy(model)
    high = torch.arange(256) >= 128
    with torch.no_grad():
        model.embedding.weight[:, 0] = torch.where(high, 40.0, -40.0)
        for projection in (model.network.routing.q_proj, model.network.routing.k_proj):  # pyright: ignore  modules by their names
            projection.weight.zero_()
            projection.weight[0, 0] = 1.0
    return model


@pytest.mark.parametrize("weights", ["bfloat16", "float32 under autocast"])
@torch.no_grad()
def test_decoding_equals_prefill(model: HNetLM, weights: str) -> None:
    """Within what bfloat16 resolves: another order of the same sums."""
    model = forced(model)
    if weights == "bfloat16":
        model = model.bfloat16()
    ids = torch.randint(254, (40,))
    with torch.autocast("cpu", torch.bfloat16, enabled=weights != "bfloat16"):
        whole = model(ids)
        state, outputs, boundaries = model.new_state(1), [], []
        for piece in ids.split([13, 1, 1, 1, 0, 7, *[1] * 17]):
            out = model(piece, state=state)
            state = out.state
            outputs.append(out.logits)
            boundaries.append(out.routings[0].is_boundary)
    assert 0.2 < whole.routings[0].is_boundary.float().mean() < 0.8
    assert torch.cat(boundaries).equal(whole.routings[0].is_boundary)
    scale = whole.logits.float().std()
    torch.testing.assert_close(torch.cat(outputs).float(), whole.logits.float(), rtol=0, atol=0.06 * scale.item())


@pytest.mark.parametrize("weights", ["bfloat16", "float32 under autocast"])
@torch.no_grad()
def test_close_to_float32(model: HNetLM, weights: str) -> None:
    model = forced(model)
    ids = torch.randint(254, (64,))
    seqs = Sequences.from_lengths(LENGTHS)
    expected = model(ids, seqs)
    model = model.bfloat16() if weights == "bfloat16" else model
    with torch.autocast("cpu", torch.bfloat16, enabled=weights != "bfloat16"):
        out = model(ids, seqs)
    assert out.routings[0].is_boundary.equal(expected.routings[0].is_boundary)
    error = (out.logits.float() - expected.logits).square().mean().sqrt() / expected.logits.std()
    assert error < 0.03


def test_autocast_trains_with_float32_weights(model: HNetLM) -> None:
    model = forced(model)
    ids, targets = torch.randint(254, (2, 64))
    seqs = Sequences.from_lengths(LENGTHS)

    def gradients(autocast: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = model(ids, seqs)
        loss = next_byte_loss(out.logits, targets) + 0.03 * ratio_loss(out.routings[0], 3.0)
        assert loss.dtype == torch.float32
        grads = torch.autograd.grad(loss, list(model.parameters()))
        assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)
        return torch.cat([grad.flatten() for grad in grads])

    half, full = gradients(autocast=True), gradients(autocast=False)
    assert torch.nn.functional.cosine_similarity(half, full, dim=0) > 0.995


def test_float64_is_float64_throughout(model: HNetLM) -> None:
    model = copy.deepcopy(model).double()
    assert seen_types(model, Block) == {"in": {torch.float64}, "out": {torch.float64}}
    state = model.new_state(1)
    out = model(torch.randint(254, (20,)), state=state)
    assert out.logits.dtype == out.routings[0].boundary_prob.dtype == torch.float64
    assert {t.dtype for t in tensors(out.state) if t.is_floating_point()} == {torch.float64}
