"""Which backend a leaf op runs on: the one place where that is decided.

Each op is a folder, and each of its backends a file there that defines a function of the op's name and, where it cannot
do everything, `supports(...)` with the same arguments: None, or why not. `reference` is slow, obvious and
differentiable in float64; `eager` is made of torch's operations and runs on any device; `cpu` is a compiled loop,
`triton` a kernel for a GPU, `varlen` torch's own attention of packed sequences there. A call takes the first backend of
its device's preferences that supports it. Another is named by argument (`ssd(..., backend="reference")`) or for a block
of code, down to the last op of a whole model:

    with use_backend("reference"):            # every op that has it
    with use_backend(ssd="reference"):        # one op
    with use_backend(ssd="my_ops"):           # a module of one's own that has been imported, or an entry point

The choice holds for all threads of the process, and for a block that is recomputed later in the backward pass. A
backend asked for by name that cannot do it is a ValueError that says why; there is no fallback.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from threading import Lock
from types import ModuleType
from typing import Any

import torch

from hnet_lm.extras import is_installed
from hnet_lm.registry import imported_module

PREFERENCES: Mapping[str, tuple[str, ...]] = {"cpu": ("cpu", "eager"), "cuda": ("triton", "varlen", "eager")}
"""By type of device, best first. A plain dictionary: compilers do not follow a mapping proxy."""
ANY_DEVICE = ("eager",)
LIBRARIES = {"triton": "triton", "varlen": "torch.nn.attention.varlen"}
"""By backend: a module that not every installation has. Without it the backend is passed over."""
ENTRY_POINTS = "hnet_lm.op_backends"

OPS_PACKAGE = __name__.rpartition(".")[0]
Choice = Mapping[str, str]
"""Backends by the name of the op; `*` stands for every op that has it."""


class _Choices:
    """The choices in force, innermost last. Blocks of several threads may overlap in any order."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.in_force: tuple[Choice, ...] = ()

    def add(self, choice: Choice) -> None:
        with self._lock:
            self.in_force = (*self.in_force, choice)

    def remove(self, choice: Choice) -> None:
        with self._lock:
            self.in_force = tuple(other for other in self.in_force if other is not choice)


_choices = _Choices()
_remembered: ContextVar[tuple[Choice, ...] | None] = ContextVar("remembered_backends", default=None)


@contextmanager
def use_backend(every: str | None = None, **by_op: str) -> Iterator[None]:
    """Within the block, run every op that has this backend (or the named ones) on it, in all threads.

    Raises ValueError for an op or a backend that does not exist.
    """
    choice: dict[str, str] = {}
    ops = {name: Op(f"{OPS_PACKAGE}.{name}") for name in op_names()}
    if every is not None:
        having = {name: backend for name, op in ops.items() if (backend := op.find(every)) is not None}
        if not having:
            raise ValueError(f"no op has a backend {every!r}")
        choice |= {name: backend for name, backend in having.items() if backend not in ops[name].available()}
        choice["*"] = every
    for name, backend in by_op.items():
        if name not in ops:
            raise ValueError(f"there is no op {name!r}; ops are {', '.join(ops)}")
        ops[name].load(backend)
        choice[name] = ops[name].find(backend) or backend
    _choices.add(choice)
    try:
        yield
    finally:
        _choices.remove(choice)


def are_chosen() -> bool:
    """Whether a choice is in force, of any op."""
    return bool(_in_force())


def remember_backends() -> Callable[[], AbstractContextManager[None]]:
    """A context that chooses as is chosen now, for code that runs this call's ops again later."""
    in_force = _in_force()

    @contextmanager
    def recall() -> Iterator[None]:
        token = _remembered.set(in_force)
        try:
            yield
        finally:
            _remembered.reset(token)

    return recall


def load_preferred(device: torch.device) -> None:
    """Import the backends that calls on this device prefer.

    Torch knows their ops, and a FLOP counter what these cost, from then on; else it would be from the first call on.
    """
    for op in (Op(f"{OPS_PACKAGE}.{name}") for name in op_names()):
        for backend in PREFERENCES.get(device.type, ANY_DEVICE):
            if backend in op.available() and op.missing(backend) is None:
                op.load(backend)


def op_names() -> list[str]:
    """Every folder of an op: those that hold a reference."""
    package = importlib.import_module(OPS_PACKAGE)
    folders = (module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)
    return [name for name in folders if "reference" in Op(f"{OPS_PACKAGE}.{name}").available()]


def _in_force() -> tuple[Choice, ...]:
    # A compiler traces a block that is recomputed together with its first run, so nothing is remembered for it.
    remembered = None if torch.compiler.is_compiling() else _remembered.get()
    return _choices.in_force if remembered is None else remembered


class Op:
    """The backends of one op; `package` is the op's folder as a module name.

    An op may have `parts`, other ops that give the same one after the other, as its backend `eager` calls them. Where a
    backend is chosen for a part, that is what runs.
    """

    def __init__(self, package: str, parts: tuple[str, ...] = ()):
        self.package = package
        self.parts = parts
        self.name = package.rpartition(".")[2]
        self._available = self._listed()
        self._missing = {
            name: library
            for name, library in LIBRARIES.items()
            if name in self._available and not is_installed(library)
        }
        self._loaded: dict[str, ModuleType] = {}

    def run(self, backend: str | None, device: torch.device, *arguments: Any) -> Any:
        """The result of the backend that is named, chosen or preferred for this call."""
        return getattr(self.choose(backend, device, *arguments), self.name)(*arguments)

    def choose(self, backend: str | None, device: torch.device, *arguments: Any) -> ModuleType:
        """The module of the backend. Raises ValueError for one that is asked for and does not support the call."""
        name = self._chosen() if backend is None else backend
        if name is not None:
            module = self.load(name)
            reason = _why_not(module, arguments)
            if reason is not None:
                raise ValueError(f"op {self.name}: the backend {name!r} cannot do this: {reason}")
            return module
        for name in PREFERENCES.get(device.type, ANY_DEVICE):
            if name in self._available and self.missing(name) is None:
                module = self.load(name)
                if _why_not(module, arguments) is None:
                    return module
        raise ValueError(f"op {self.name}: no backend can do this on a device of type {device.type!r}")

    def load(self, name: str) -> ModuleType:
        """Raises ValueError for a backend that does not exist or whose library is not installed. One whose file has
        come since is found."""
        if name not in self._loaded:
            if name not in self._available:
                own = _defines(self.name, sys.modules.get(name))
                if own is not None:  # not remembered: its user may import it anew
                    return own
            found = self.find(name)
            if found is None:
                raise ValueError(
                    f"op {self.name} has no backend {name!r}; there are {', '.join(self._available)}, and any module "
                    f"that has been imported and defines {self.name}"
                )
            if found not in self._available:
                return sys.modules[found]
            if (library := self.missing(name)) is not None:
                raise ValueError(f"op {self.name}: the backend {name!r} needs {library}, which is not installed")
            self._loaded[name] = importlib.import_module(f"{self.package}.{name}")
        return self._loaded[name]

    def find(self, name: str) -> str | None:
        """The name of a backend in the op's folder, or of a user's module that is one; None if there is neither."""
        if name not in self._available:
            self._available = self._listed()
        if name in self._available:
            return name
        own = _defines(self.name, imported_module(name, ENTRY_POINTS))
        return None if own is None else own.__name__

    def missing(self, name: str) -> str | None:
        """The library that a backend of the op's folder needs and this installation does not have."""
        return self._missing.get(name)

    def available(self) -> list[str]:
        """Names of all backends in the op's folder, whether or not they can run on this machine."""
        return list(self._available)

    def _listed(self) -> list[str]:
        paths = importlib.import_module(self.package).__path__
        files = (module.name for module in pkgutil.iter_modules(paths) if not module.ispkg)
        return sorted(name for name in files if not name.startswith("_"))

    def _chosen(self) -> str | None:
        for choice in reversed(_in_force()):
            if self.name in choice:
                return choice[self.name]
            if choice.get("*") in self._available:
                return choice["*"]
            if any(part in choice for part in self.parts):
                return "eager"
        return None


def _defines(op: str, module: ModuleType | None) -> ModuleType | None:
    """The module, if it defines a function of the op's name."""
    return module if module is not None and callable(vars(module).get(op)) else None


def _why_not(module: ModuleType, arguments: tuple[Any, ...]) -> str | None:
    supports = getattr(module, "supports", None)
    return None if supports is None else supports(*arguments)
