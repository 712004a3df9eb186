"""Rotary positions against their formula."""

import math

import pytest
import torch
from op_runs import backends

from hnet_lm.ops.rotary import rotary

pytestmark = pytest.mark.parametrize("backend", backends("rotary"))


@pytest.mark.parametrize("dim", [0, 2, 4, 8])
def test_rotary_is_a_rotation_of_pairs_half_a_dim_apart(backend: str, dim: int) -> None:
    x = torch.randn(5, 2, 8, dtype=torch.float64)
    positions = torch.tensor([0, 1, 2, 7, 1000])
    y = rotary(x, positions, dim, backend=backend)
    assert y[..., dim:].equal(x[..., dim:])
    for t, position in enumerate(positions.tolist()):
        for i in range(dim // 2):
            angle = position * 10000.0 ** (-2 * i / dim)
            a, b = x[t, :, i], x[t, :, i + dim // 2]
            torch.testing.assert_close(y[t, :, i], a * math.cos(angle) - b * math.sin(angle))
            torch.testing.assert_close(y[t, :, i + dim // 2], a * math.sin(angle) + b * math.cos(angle))


def test_rotary_scores_depend_on_the_distance_alone(backend: str) -> None:
    q, k = torch.randn(2, 1, 1, 8, dtype=torch.float64)
    scores = [
        (rotary(q, torch.tensor([p + 3]), 8, backend=backend) * rotary(k, torch.tensor([p]), 8, backend=backend)).sum()
        for p in (0, 5, 900)
    ]
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])


def test_rotary_keeps_the_type_and_computes_angles_in_float32(backend: str) -> None:
    x = torch.ones(1, 1, 4).bfloat16()
    y = rotary(x, torch.tensor([1001]), 4, backend=backend)
    assert y.dtype == torch.bfloat16
    assert y[0, 0, 0].item() == pytest.approx(math.cos(1001) - math.sin(1001), abs=1e-2)
