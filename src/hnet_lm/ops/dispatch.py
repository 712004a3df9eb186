"""Which backend an op runs on: the one place where that is decided.

Each op is a folder and each of its backends a file in it, which defines a function of the op's name. `reference` is
slow, obvious and differentiable in float64; `torch` is parallel over time and runs on any device; `numba`, where an op
has one, is a compiled loop for the CPU and what runs there. Another is named by argument (`ssd(...,
backend="reference")`) or for a block of code:

    with use_backend("reference"):            # every op
    with use_backend(ssd="reference"):        # one op

Nothing falls back in silence: an unknown backend, or one that cannot run here, is an error that says why.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import torch

DEFAULT = "torch"
DEFAULTS: Mapping[str, str] = MappingProxyType({"cpu": "numba"})
"""By type of device, for the ops that have this backend; the others run on `DEFAULT`."""
_chosen: ContextVar[Mapping[str, str]] = ContextVar("chosen_backends", default=MappingProxyType({}))


@contextmanager
def use_backend(every: str | None = None, **by_op: str) -> Iterator[None]:
    """Within the block, run every op (or the named ones) on this backend."""
    token = _chosen.set({**_chosen.get(), **({"*": every} if every else {}), **by_op})
    try:
        yield
    finally:
        _chosen.reset(token)


def is_chosen(*names: str) -> bool:
    """Whether a backend is chosen for one of these ops by name: then an op made of them has to leave them to it."""
    chosen = _chosen.get()
    return bool(chosen) and any(name in chosen for name in names)


class Op:
    """The backends of one op; `package` is the op's folder as a module name."""

    def __init__(self, package: str):
        self.package = package
        self.name = package.rpartition(".")[2]
        self._loaded: dict[str, Callable[..., Any]] = {}
        self._defaults: dict[torch.device, Callable[..., Any]] = {}

    def backend(self, name: str | None, device: torch.device) -> Callable[..., Any]:
        """The function of the named backend; without a name, of the one chosen by `use_backend`, or the default."""
        chosen = _chosen.get()
        if chosen:
            name = name or chosen.get(self.name) or chosen.get("*")
        if name is not None:
            if name in DEFAULTS.values() and DEFAULTS.get(device.type) != name:
                raise ValueError(
                    f"op {self.name}: the backend {name!r} does not run on a device of type {device.type!r}"
                )
            return self._load(name)
        if device not in self._defaults:
            self._defaults[device] = self._load(self.default(device))
        return self._defaults[device]

    def _load(self, name: str) -> Callable[..., Any]:
        if name not in self._loaded:
            if name not in self.available():
                raise ValueError(f"op {self.name} has no backend {name!r}; it has {', '.join(self.available())}")
            self._loaded[name] = getattr(importlib.import_module(f"{self.package}.{name}"), self.name)
        return self._loaded[name]

    def default(self, device: torch.device) -> str:
        """What runs on this device unless another is chosen."""
        wanted = DEFAULTS.get(device.type, DEFAULT)
        return wanted if wanted in self.available() else DEFAULT

    def available(self) -> list[str]:
        """Names of all backends, whether or not they can run on this machine."""
        paths = importlib.import_module(self.package).__path__
        return sorted(module.name for module in pkgutil.iter_modules(paths) if not module.name.startswith("_"))
