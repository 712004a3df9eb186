"""How the inputs of a mixer lie side by side, and what its parts cost."""

from collections.abc import Sequence

from torch import Tensor


def projected_columns(zxbcdt: Tensor, d_conv: int, num_heads: int) -> tuple[Tensor, ...]:
    """z, (x, B, C) and dt."""
    return zxbcdt.split([zxbcdt.shape[1] - d_conv - num_heads, d_conv, num_heads], dim=1)


def scanned_columns(xBC: Tensor, d: int) -> tuple[Tensor, ...]:
    """x, B and C."""
    d_state = (xBC.shape[1] - d) // 2
    return xBC.split([d, d_state, d_state], dim=1)


def flops(zxbcdt: Sequence[int], taps: Sequence[int], d: int) -> int:
    """Of a forward pass of these shapes, as the convolution and the scan count theirs."""
    (num_positions, _), (width, d_conv) = zxbcdt, taps
    return 2 * num_positions * width * d_conv + 6 * num_positions * d * (d_conv - d) // 2
