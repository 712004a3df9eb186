"""What this machine can do: the matrix-product peak that utilisation is measured against, and the precision for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

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
    return torch.float32 if _bfloat16_feature(device) is None else torch.bfloat16


def describe_products(name: str, precision: torch.dtype, device: torch.device, tf32: bool) -> str:
    """One line: the type of matrix products, and what decided it."""
    line = f"matrix products in {str(precision).removeprefix('torch.')}"
    if name == "auto":
        feature = _bfloat16_feature(device)
        line += f" (auto: {feature or 'the CPU has neither amx_bf16 nor avx512_bf16'})"
    if device.type == "cuda":
        line += f", those that stay in float32 in {'TF32' if tf32 else 'full float32'}"
    return line


def _bfloat16_feature(device: torch.device) -> str | None:
    """What the device has for products in bfloat16, if anything."""
    if device.type != "cpu":
        return f"the device is {device.type}"
    if torch.cpu._is_amx_tile_supported():
        return "the CPU has amx_bf16"
    return "the CPU has avx512_bf16" if torch.cpu._is_avx512_bf16_supported() else None


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Within the block products of float32 on CUDA are made in TF32 (10 bits of mantissa), if that is wished for."""
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    if tf32:
        settings.fp32_precision = "tf32"
    try:
        yield
    finally:
        settings.fp32_precision = before
