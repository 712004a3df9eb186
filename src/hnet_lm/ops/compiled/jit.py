"""Compilation: one decorator for loops, and a cache of machine code that is never stale.

The machine code of a loop depends on every function and constant it inlines from other files. So the cache's stamp is
a hash of all sources under `ops/` and in the loop's own folder, and of the versions of numba and llvmlite: whatever
changes there, all loops are compiled again.

Machine code is kept in the `__pycache__` beside the loop, or else in the user's cache folder. Where neither can be
written, loops are compiled for this process alone, and a warning says so once.
"""

import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.ccallback import CFunc

MATHS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
"""Sums may be reordered, which vectors need; infinities and NaN keep their meaning."""

PACKAGE = Path(__file__).parents[2]
OPS = PACKAGE / "ops"


def compiled(function: Callable[..., Any]) -> Any:
    """A loop, compiled at its first call for each signature. It runs without Python's lock."""
    dispatcher: Any = numba.njit(nogil=True, **MATHS)(function)
    if cache_folder(Path(function.__code__.co_filename).parent) is not None:
        dispatcher._cache = _LoopCache(function)
    return dispatcher


inlined: Callable[[Callable[..., Any]], Any] = numba.njit(forceinline=True, **MATHS)
"""Part of the loops that call it: compiled once for each signature, and put where it is called."""

expanded: Callable[[Callable[..., Any]], Any] = numba.njit(inline="always", **MATHS)
"""The same by its source, so that compile-time constants may be passed to it. That takes far longer to compile."""


def compiled_callback(function: Callable[..., None], signature: Any) -> CFunc:
    """A loop that other loops call by its `address`. Whoever knows the address must keep the result alive."""
    callback: Any = CFunc(function, signature, {}, dict(MATHS))
    if cache_folder(Path(function.__code__.co_filename).parent) is not None:
        callback._cache = _LoopCache(function)
    callback.compile()
    return callback


@cache
def cache_folder(source_folder: Path) -> Path | None:
    """Where the machine code of the loops of a folder is kept; None if nothing can be written."""
    name = hashlib.sha256(bytes(source_folder)).hexdigest()[:16]
    for folder in (source_folder / "__pycache__", _user_cache() / name):
        if _is_writable(folder):
            return folder
    _warn_once()
    return None


@cache
def source_stamp(source_folder: Path) -> str:
    """Hash of everything the machine code of this folder's loops is made from."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    for folder in sorted({OPS, source_folder}):
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def _user_cache() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", tempfile.gettempdir())
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hnet-lm"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@cache
def _warn_once() -> None:
    warnings.warn(
        "neither the package's folder nor the user's cache folder can be written: loops are compiled for this process "
        "alone, which takes some seconds at each start",
        stacklevel=2,
    )


class _Locator:
    """Tells numba where the machine code of a function is kept, and what it was made from."""

    def __init__(self, function: Callable[..., Any]):
        self._source = Path(function.__code__.co_filename)
        self._line = function.__code__.co_firstlineno

    def ensure_cache_path(self) -> None:
        os.makedirs(self.get_cache_path(), exist_ok=True)

    def get_cache_path(self) -> str:
        return str(cache_folder(self._source.parent))

    def get_source_stamp(self) -> str:
        return source_stamp(self._source.parent)

    def get_disambiguator(self) -> str:
        return f"{self._source.stem}-{self._line}"

    @classmethod
    def from_function(cls, function: Callable[..., Any], _: str) -> "_Locator":
        return cls(function)


class _LoopCacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012  numba's own attribute


class _LoopCache(FunctionCache):
    _impl_class = _LoopCacheImpl

    def save_overload(self, sig: Any, data: Any) -> None:
        """A full disk costs the time to compile again, and nothing else."""
        with suppress(OSError):
            super().save_overload(sig, data)
