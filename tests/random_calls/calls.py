"""One call of a public function: what may happen, and how it is compared with the reference."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from spoilers import spoil
from torch import Tensor

from hnet_lm.sequences import Sequences
from hnet_lm.state import State

REFUSALS = (ValueError, TypeError)
"""ConfigError and every other error of a user is a ValueError."""
ATOL = {torch.float64: 1e-8, torch.float32: 3e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}


@dataclass
class Call:
    family: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] | None = None
    """Options under which the same call gives what it has to give; None: nothing is compared."""
    consumed: frozenset[str] = frozenset()
    """Arguments whose memory the call may use again."""
    is_right: bool = False
    """The call must succeed."""
    has_gradients: bool = False

    def __str__(self) -> str:
        arguments = (f"{name}={_described(value)}" for name, value in {**self.arguments, **self.options}.items())
        return f"{self.family}({', '.join(arguments)})"

    def outcome(self) -> str:
        """What happened: 'done', 'refused', or, in a sentence, what must not happen."""
        before = {name: copied(value) for name, value in self.arguments.items()}
        expected = None if self.reference is None else self._run(self.reference)
        actual = self._run(self.options)
        for name, value in self.arguments.items():
            if not same(flat(value), flat(before[name]), exact=True):
                return f"the argument {name} was changed"
        if isinstance(actual, Exception):
            if not isinstance(actual, REFUSALS):
                return f"raised {type(actual).__name__}: {actual}"
            if self.is_right:
                return f"a right call was refused: {actual}"
            return "refused"
        if isinstance(expected, Exception):
            return f"succeeded, but the reference raised {type(expected).__name__}: {expected}"
        if expected is not None and not same(actual, expected):
            return f"gave {_shown(actual)}, but the reference gave {_shown(expected)}"
        return "done"

    def _run(self, options: Mapping[str, Any]) -> list[Any] | Exception:
        """Results and gradients, flat; or what was raised."""
        arguments = {name: copied(value) for name, value in self.arguments.items()}
        leaves = []
        if self.has_gradients:
            leaves = [x.requires_grad_() for x in arguments.values() if isinstance(x, Tensor) and _is_real(x)]
        try:
            results = flat(self.function(**arguments, **options))
            terms = [x.double().sum() for x in results if isinstance(x, Tensor) and x.requires_grad]
            if terms and leaves:
                total = sum(terms[1:], terms[0])
                results += torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
            else:  # nothing depends on them, as where there are no positions
                results += map(torch.zeros_like, leaves)
        except Exception as error:  # whatever it is: that is the outcome
            return error
        return results


def spoiled(random: Random, arguments: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The arguments with some of them replaced by others."""
    result = dict(arguments)
    for name in random.sample(list(arguments), number):
        result[name] = spoil(random, arguments[name])
    return result


def copied(value: Any) -> Any:
    """With memory of its own, laid out as it was."""
    match value:
        case State():
            return value if value._is_consumed else value.map(copied)
        case Tensor() if value.is_nested or value.layout != torch.strided or value.device.type == "meta":
            return value.detach()
        case Tensor():
            if value.is_neg():
                return torch._neg_view((-value.detach()).resolve_neg())
            if value.numel() and 0 in value.stride() and len(value) > 1:  # as `_overlapping` makes it
                return value[:1].detach().clone().expand(value.shape)
            memory = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
            return memory.copy_(value.detach()).as_subclass(type(value))
    return value


def flat(value: Any) -> list[Any]:
    """The tensors and numbers of a result, in order."""
    match value:
        case Sequences():
            return [value.cu_seqlens, value.slots]
        case Tensor():
            return [value]
        case State():
            return [part for f in dataclasses.fields(value) for part in flat(getattr(value, f.name))]
        case tuple() | list():
            return [part for item in value for part in flat(item)]
        case _ if dataclasses.is_dataclass(value) and not inspect.isclass(value):
            return [part for f in dataclasses.fields(value) for part in flat(getattr(value, f.name))]
    return [value]


def same(actual: Any, expected: Any, *, exact: bool = False) -> bool:
    pairs = list(zip(actual, expected, strict=False))
    return len(actual) == len(expected) and all(_same(a, b, exact) for a, b in pairs)


def _same(actual: Any, expected: Any, exact: bool) -> bool:
    if not isinstance(actual, Tensor) or not isinstance(expected, Tensor):
        return isinstance(actual, Tensor) == isinstance(expected, Tensor)
    if (actual.dtype, actual.device, actual.layout) != (expected.dtype, expected.device, expected.layout):
        return False
    if actual.is_nested or actual.layout != torch.strided or actual.device.type == "meta":
        return True
    if actual.shape != expected.shape:
        return False
    if exact or not _is_real(actual):
        return torch.equal(actual.nan_to_num(), expected.nan_to_num()) if _is_real(actual) else actual.equal(expected)
    actual, expected, atol = actual.double(), expected.double(), ATOL[actual.dtype]
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    return torch.allclose(actual, expected, rtol=0, atol=atol * scale, equal_nan=True)


def _is_real(x: Tensor) -> bool:
    return x.dtype in ATOL and x.device.type != "meta" and x.layout == torch.strided and not x.is_nested


def _described(value: Any) -> str:
    match value:
        case Tensor() if value.is_nested:
            return "nested"
        case Tensor():
            strides = f" strides {value.stride()}" if value.layout == torch.strided else f" {value.layout}"
            return f"{str(value.dtype)[6:]}{tuple(value.shape)}{strides} {value.device}"
        case Sequences():
            slots = "" if value.slots is None else f" slots {value.slots.tolist()}"
            return f"Sequences({value.host_lengths}{slots})"
        case State():
            used = " consumed" if value._is_consumed else ""
            return f"{type(value).__name__}({', '.join(_described(x) for x in flat(value))}){used}"
    return repr(value)[:60]


def _shown(results: list[Any]) -> str:
    numbers = (x.tolist() if isinstance(x, Tensor) and _is_real(x) else "" for x in results)
    return "; ".join(f"{_described(x)} {n}" for x, n in zip(results, numbers, strict=True))[:900]
