"""What boundary_prob is at its ends, on every backend, without a state and position by position."""

from collections.abc import Callable

import pytest
import torch
from op_runs import backends
from torch import Tensor

from hnet_lm.ops.boundary_prob import boundary_prob
from hnet_lm.sequences import Sequences

D = 6
Run = Callable[[Tensor], Tensor]


@pytest.fixture(params=["at once", "one by one"])
def of_sequence(request: pytest.FixtureRequest, backend: str) -> Run:
    """p of the positions of one sequence, whose vectors are compared as they are."""

    def at_once(x: Tensor) -> Tensor:
        return boundary_prob(x, x, Sequences.from_lengths([len(x)]), backend=backend)[0]

    def one_by_one(x: Tensor) -> Tensor:
        probs, last, has_seen = [], torch.zeros(1, D), torch.zeros(1, dtype=torch.bool)
        for row in x.split(1):
            p, last, has_seen = boundary_prob(row, row, Sequences.from_lengths([1]), last, has_seen, backend=backend)
            probs.append(p)
        return torch.cat(probs)

    return torch.no_grad()(at_once if request.param == "at once" else one_by_one)


pytestmark = pytest.mark.parametrize("backend", backends("boundary_prob"))


def test_likeness_and_its_opposite(of_sequence: Run) -> None:
    v, w = torch.zeros(2, D)
    v[0], w[1] = 2.0, 3.0
    p = of_sequence(torch.stack([v, 3 * v, w, -w, -w, w]))
    torch.testing.assert_close(p, torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0, 1.0]), rtol=0, atol=1e-6)


def test_it_never_leaves_zero_to_one(of_sequence: Run) -> None:
    """Also where the cosine of a vector with itself is rounded to more than 1."""
    v = torch.randn(200, D)
    p = of_sequence(torch.stack([v, v, -v], 1).flatten(0, 1))
    assert p.min() >= 0
    assert p.max() <= 1


def test_a_vector_of_zeros_resembles_nothing(of_sequence: Run) -> None:
    x = torch.randn(4, D)
    x[1] = 0
    torch.testing.assert_close(of_sequence(x)[1:3], torch.tensor([0.5, 0.5]))


def test_nan_stays_nan(of_sequence: Run) -> None:
    x = torch.randn(5, D)
    x[2, 3] = float("nan")
    assert of_sequence(x).isnan().tolist() == [False, False, True, True, False]
