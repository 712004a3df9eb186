"""What the machine can do: matrix products a second in float32 and bfloat16, and bytes read from memory a second.

Every share of a peak elsewhere is one of these figures' share.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from speed.settings import Settings
from speed.timing import in_turn

SLOW_SECONDS = 1.0  # a product that takes longer says enough: no larger one is tried (emulated bfloat16)
COLUMNS = 4096


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    sizes = settings.peaks.matmul_sizes
    return {
        "matmul": {
            str(dtype).removeprefix("torch."): _matmul(sizes, dtype, settings.rounds, device)
            for dtype in (torch.float32, torch.bfloat16)
        },
        "memory_read": _memory_read(settings.peaks.buffer_bytes, settings.rounds, device),
    }


def _matmul(sizes: tuple[int, ...], dtype: torch.dtype, rounds: int, device: torch.device) -> dict[str, Any]:
    """The square product with the most FLOP/s."""
    found = []
    for size in sizes:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        timing = in_turn({"product": _product(a, b)}, rounds, device)["product"]
        found.append({"size": size, "flops_per_second": 2 * size**3 / timing["seconds"], **timing})
        if timing["seconds"] > SLOW_SECONDS:
            break
    return max(found, key=lambda result: result["flops_per_second"])


def _memory_read(num_bytes: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """A sum, and a product with a vector as in decoding; what reads faster counts."""
    matrix = torch.ones(num_bytes // 4 // COLUMNS, COLUMNS, device=device)
    timings = in_turn(
        {"sum": matrix.sum, "matrix times vector": _product(matrix, torch.ones(COLUMNS, device=device))},
        rounds,
        device,
    )
    name = min(timings, key=lambda key: timings[key]["seconds"])
    read = matrix.numel() * matrix.element_size()
    return {"by": name, "buffer_bytes": read, "bytes_per_second": read / timings[name]["seconds"], "timings": timings}


def _product(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    return lambda: a @ b
