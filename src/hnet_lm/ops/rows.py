"""Moving whole rows of a packed activation, with gradients that add in a fixed order.

torch's own `x[rows]` accumulates its gradient by index, on a GPU and on several threads in an order of chance. Where
rows are all different, the gradient is a move back; where they rise, it is a sum of each segment.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def gather_rows(x: Float[Tensor, "n ..."], rows: Int[Tensor, " m"]) -> Float[Tensor, "m ..."]:
    """`x[rows]`, for rows that are all different."""
    return _GatherRows.apply(x, rows) if torch.is_grad_enabled() else x.index_select(0, rows)


def spread_rows(x: Float[Tensor, "m ..."], rows: Int[Tensor, " m"], num_rows: int) -> Float[Tensor, "n ..."]:
    """Zeros of `num_rows` rows with x written to `rows`, which are all different."""
    return _SpreadRows.apply(x, rows, num_rows)


def repeat_rows(x: Float[Tensor, "n d"], rows: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
    """`x[rows]`, for rows that never fall: each row of x some number of times in turn."""
    return _RepeatRows.apply(x, rows) if torch.is_grad_enabled() else x.index_select(0, rows)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows = x.shape[0]
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  torch's own takes any gradients
        (rows,) = ctx.saved_tensors
        return spread_rows(grad, rows, ctx.num_rows), None


class _SpreadRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, num_rows: int) -> Tensor:
        ctx.save_for_backward(rows)
        return x.new_zeros(num_rows, *x.shape[1:]).index_copy_(0, rows, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  torch's own takes any gradients
        (rows,) = ctx.saved_tensors
        return gather_rows(grad, rows), None, None


class _RepeatRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows = x.shape[0]
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  torch's own takes any gradients
        (rows,) = ctx.saved_tensors
        if grad.device.type == "cpu":  # where index_add_ is sequential, and the faster one
            return grad.new_zeros(ctx.num_rows, grad.shape[1]).index_add_(0, rows, grad), None
        ends = torch.searchsorted(rows, torch.arange(ctx.num_rows + 1, device=rows.device))
        return torch.segment_reduce(grad.contiguous(), "sum", offsets=ends, axis=0, unsafe=True), None
