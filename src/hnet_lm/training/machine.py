"""What this machine can do: the matrix-product peak that utilisation is measured against, and the precision for it."""

import time

import torch

SIZE = {"cpu": 1024, "cuda": 8192}


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product: the best of a few, after one to warm up."""
    size = SIZE.get(device.type, 4096)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for attempt in range(4):
        start = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if attempt:
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of matrix products: as named, or with "auto" bfloat16 where the machine has instructions for them.

    On a CPU these are AMX and AVX-512 BF16; without them a product in bfloat16 is slower than one in float32. Two
    starts on one machine always choose the same.
    """
    if name != "auto":
        return getattr(torch, name)
    if device.type != "cpu" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32
