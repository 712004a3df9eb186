"""Each backend of the MLP's gate against the float64 reference: output and both gradients, in halves of one row too."""

import pytest
import torch
from op_runs import backends
from torch import Tensor
from torch.autograd import gradcheck

from hnet_lm.ops.swiglu import swiglu

every_backend = pytest.mark.parametrize("backend", backends("swiglu"))


def run(rows: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Output and the gradient to the row that holds y and gate side by side."""
    rows = rows.detach().requires_grad_()
    out = swiglu(*rows.chunk(2, dim=-1), backend=backend)
    return out.detach(), torch.autograd.grad((out.double() * torch.linspace(-1, 1, out.shape[1])).sum(), rows)[0]


@every_backend
@pytest.mark.parametrize("num_positions", [0, 1, 37])
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)], ids=str
)
def test_equals_the_reference(num_positions: int, backend: str, dtype: torch.dtype, atol: float) -> None:
    rows = (3 * torch.randn(num_positions, 48)).to(dtype)
    for actual, wanted in zip(run(rows, backend), run(rows.double(), "reference"), strict=True):
        assert actual.dtype == dtype
        scale = max(1.0, wanted.abs().max().item()) if wanted.numel() else 1.0
        torch.testing.assert_close(actual.double(), wanted, rtol=0, atol=atol * scale)


def test_the_reference_numerically() -> None:
    y, gate = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(lambda y, gate: swiglu(y, gate, backend="reference"), (y, gate))
