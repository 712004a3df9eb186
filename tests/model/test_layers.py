"""The small layers against their formulas."""

import math

import pytest
import torch
from torch.nn.functional import silu

from hnet_lm.model.layers import Float32Linear, GatedMLP, RMSNorm, Widen, apply_rotary


def test_rms_norm() -> None:
    norm = RMSNorm(6).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight)


def test_rms_norm_of_large_bfloat16_does_not_overflow() -> None:
    norm = RMSNorm(8).bfloat16()
    y = norm(torch.full((2, 8), 1e25))
    assert y.dtype == torch.bfloat16
    assert norm(torch.full((2, 8), 1e15)).float().sub(1).abs().max() < 1e-2


def test_the_gate_is_the_second_half() -> None:
    mlp = GatedMLP(3, 5).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    value, gate = mlp.fc1.weight[:5], mlp.fc1.weight[5:]
    torch.testing.assert_close(mlp(x), (silu(x @ gate.T) * (x @ value.T)) @ mlp.fc2.weight.T)


def test_float32_linear_under_autocast_and_in_bfloat16() -> None:
    layer, x = Float32Linear(16, 16), torch.randn(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, x @ layer.weight.T + layer.bias)
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.float32


def test_widen_appends_one_vector_to_every_row() -> None:
    widen = Widen(3, 5)
    torch.nn.init.normal_(widen.pad_vector)
    x = torch.randn(4, 3)
    y = widen(x)
    assert y[:, :3].equal(x)
    assert y[:, 3:].equal(widen.pad_vector.expand(4, 2))
    assert widen(x[:0]).shape == (0, 5)


def test_widen_to_the_same_width_has_no_weight() -> None:
    widen, x = Widen(3, 3), torch.randn(4, 3)
    assert list(widen.parameters()) == []
    assert widen(x).equal(x)


@pytest.mark.parametrize("dim", [0, 2, 4, 8])
def test_rotary_is_a_rotation_of_pairs_half_a_dim_apart(dim: int) -> None:
    x = torch.randn(5, 2, 8, dtype=torch.float64)
    positions = torch.tensor([0, 1, 2, 7, 1000])
    y = apply_rotary(x, positions, dim)
    assert y[..., dim:].equal(x[..., dim:])
    for t, position in enumerate(positions.tolist()):
        for i in range(dim // 2):
            angle = position * 10000.0 ** (-2 * i / dim)
            a, b = x[t, :, i], x[t, :, i + dim // 2]
            torch.testing.assert_close(y[t, :, i], a * math.cos(angle) - b * math.sin(angle))
            torch.testing.assert_close(y[t, :, i + dim // 2], a * math.sin(angle) + b * math.cos(angle))


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 8, dtype=torch.float64)
    scores = [
        (apply_rotary(q, torch.tensor([p + 3]), 8) * apply_rotary(k, torch.tensor([p]), 8)).sum() for p in (0, 5, 900)
    ]
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])


def test_rotary_keeps_the_type_and_computes_angles_in_float32() -> None:
    x = torch.ones(1, 1, 4).bfloat16()
    y = apply_rotary(x, torch.tensor([1001]), 4)
    assert y.dtype == torch.bfloat16
    assert y[0, 0, 0].item() == pytest.approx(math.cos(1001) - math.sin(1001), abs=1e-2)
