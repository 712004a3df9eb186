"""Bits per byte of general compressors at their strongest setting, which every trained model should beat."""

import gzip
import lzma
from collections.abc import Callable

from hnet_lm.errors import DataError
from hnet_lm.extras import import_leaf, is_installed

Compressor = Callable[[bytes], bytes]


def compressor_bits_per_byte(data: bytes, compressor: str) -> float:
    """Bits of the compressed file for each byte of `data`, for "gzip", "xz" or "zstd" (which needs `zstandard`)."""
    if compressor not in COMPRESSORS:
        raise DataError(f"unknown compressor {compressor!r}; known are {', '.join(COMPRESSORS)}")
    if not data:
        raise DataError("no bytes to compress")
    return 8 * len(COMPRESSORS[compressor](data)) / len(data)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=9, mtime=0)


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def _zstd(data: bytes) -> bytes:
    return import_leaf("hnet_lm.evaluation.zstd_compressor", "train", "zstd").compress(data)


def installed_compressors() -> list[str]:
    """The compressors available here: zstd needs the package `zstandard`."""
    return [name for name in COMPRESSORS if name != "zstd" or is_installed("zstandard")]


COMPRESSORS: dict[str, Compressor] = {"gzip": _gzip, "xz": _xz, "zstd": _zstd}
