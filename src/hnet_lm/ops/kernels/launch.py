"""Launching kernels: on the tensors' own GPU, in Triton's interpreter, or only onto a list.

With TRITON_INTERPRET=1 in the environment before Triton is imported, kernels run on CPU tensors, one program after the
other. That checks indices, masks and mathematics. It does not check races, types of the registers or speed, and it
multiplies bfloat16 wrongly, so that type is refused there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

IS_INTERPRETED: bool = knobs.runtime.interpret
"""Whether kernels of this process run in the interpreter; Triton asks when a kernel is defined."""
MOST_ELEMENTS = 4096
"""Numbers of a tile that one program holds of each tensor, where rows are narrow enough."""


@dataclass(frozen=True)
class Launch:
    """A kernel with what it was called with; `options` are the numbers fixed at compilation, and warps and stages."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]


_lists: list[list[Launch]] = []


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Within the block kernels are not run but listed, whatever the device. What they would write stays undefined."""
    launches: list[Launch] = []
    _lists.append(launches)
    try:
        yield launches
    finally:
        _lists.remove(launches)


def why_not(x: Tensor) -> str | None:
    """Why kernels cannot run on this tensor; None if they can."""
    if _lists or x.device.type == "cuda":
        return None
    if not IS_INTERPRETED:
        return f"it runs on a GPU, not on {x.device.type}"
    return "Triton's interpreter multiplies bfloat16 wrongly" if x.dtype == torch.bfloat16 else None


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Run the kernel, for a grid that is not empty. The first argument is a tensor on the GPU to use."""
    if 0 in grid:
        return
    if _lists:
        _lists[-1].append(Launch(kernel, grid, arguments, options))
        return
    with torch.cuda.device_of(arguments[0]):  # does nothing for a tensor of the CPU
        kernel[grid](*arguments, **options)


def tuned(*choices: tuple[int, int]) -> Callable[[Any], Any]:
    """Of a kernel: the fastest of these numbers of warps and stages.

    They are timed at the first launch with other constants or types, and the choice is kept on disk, in Triton's cache.
    TRITON_PRINT_AUTOTUNING=1 prints it. A kernel is run several times then, so it must not add to what it writes.
    """
    configs = [triton.Config({}, num_warps=warps, num_stages=stages) for warps, stages in choices]

    def decorated(kernel: Any) -> Any:
        constants = [parameter.name for parameter in kernel.params if parameter.is_constexpr]
        return triton.autotune(configs, key=constants, cache_results=True)(kernel)

    return decorated if not IS_INTERPRETED else lambda kernel: kernel


def tile(num_columns: int, most_rows: int = 32) -> dict[str, int]:
    """A tile of whole rows as wide as this: options of a kernel that takes ROWS and COLUMNS."""
    columns = triton.next_power_of_2(max(num_columns, 1))
    rows = min(most_rows, max(1, MOST_ELEMENTS // columns))
    return {"ROWS": rows, "COLUMNS": columns, "num_warps": max(1, min(16, rows * columns // 512))}


def ceil_div(number: int, size: int) -> int:
    return -(-number // size)


def unit_stride(x: Tensor) -> Tensor:
    """The tensor, or a copy where its last dimension is not contiguous. Rows may be part of wider ones."""
    return x if x.stride(-1) == 1 or x.shape[-1] <= 1 else x.contiguous()
