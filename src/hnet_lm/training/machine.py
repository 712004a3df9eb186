"""What this machine can do: the matrix-product peak that utilisation is measured against, and the faster precision."""

import time

import torch

SIZE = {"cpu": 1024, "cuda": 8192}
FASTER = 1.3


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
    """The type of matrix products: as named, or with "auto" bfloat16 where it is clearly the faster one."""
    if name != "auto":
        return getattr(torch, name)
    if device.type != "cpu":
        return torch.bfloat16
    return torch.bfloat16 if _small_matmul(torch.bfloat16) * FASTER < _small_matmul(torch.float32) else torch.float32


def _small_matmul(dtype: torch.dtype) -> float:
    """Seconds of a product small enough to stay short where the type has no hardware support."""
    a, b = (torch.randn(256, 256).to(dtype) for _ in range(2))
    times = []
    for _ in range(4):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return min(times)
