"""What every op checks at its door, so that a wrong argument is a TypeError or a ValueError on every backend."""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.sequences import Sequences

FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The types that ops compute with. Narrower ones are for storage."""
WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def given(**tensors: Tensor | None) -> dict[str, Tensor]:
    """Those of the optional arguments that are not None."""
    return {name: x for name, x in tensors.items() if x is not None}


def require_floating(op: str, **tensors: Tensor) -> None:
    """Raises TypeError or ValueError unless all are plain tensors of floating-point numbers on one device."""
    device = None
    for name, x in tensors.items():
        require_plain(op, name, x)
        if x.dtype not in FLOATING:
            raise ValueError(f"{op}: {name} must be of a floating-point type of 16 bits or more, not {x.dtype}")
        if device is not None and x.device != device:
            raise ValueError(f"{op}: {name} is on {x.device}, another argument on {device}")
        device = x.device


def require_plain(op: str, name: str, x: Tensor) -> None:
    """Raises TypeError for what is no tensor, ValueError for a nested or sparse one."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, not {type(x).__name__}")
    if x.is_nested or x.layout != torch.strided:
        raise ValueError(f"{op}: {name} must be a dense tensor, neither nested nor of layout {x.layout}")


def require_same_type(op: str, **tensors: Tensor) -> None:
    """Raises ValueError unless all have one type."""
    if len({x.dtype for x in tensors.values()}) > 1:
        types = ", ".join(f"{name} {x.dtype}" for name, x in tensors.items())
        raise ValueError(f"{op}: these must be of one type, but they are {types}")


def require_eps(op: str, eps: float) -> None:
    """Raises ValueError unless it is a finite number, 0 or more."""
    if not isinstance(eps, int | float) or not 0 <= eps < float("inf"):
        raise ValueError(f"{op}: eps must be a finite number, 0 or more, got {eps!r}")


def require_whole_number(op: str, name: str, value: Any, least: int) -> None:
    """Raises TypeError for what is no int, ValueError for one below the least or beyond 63 bits."""
    if not isinstance(value, int | torch.SymInt) or isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be a whole number, not {value!r}")
    if not least <= value < 2**63:
        raise ValueError(f"{op}: {name} must be {least} or more and below 2^63, got {value}")


def require_rows(op: str, seqs: Sequences, **tensors: Tensor) -> None:
    """Raises ValueError unless each tensor has one row per position, on the device of the sequences."""
    if not isinstance(seqs, Sequences):
        raise TypeError(f"{op}: seqs must be Sequences, not {type(seqs).__name__}")
    for name, x in tensors.items():
        if x.dim() == 0 or x.shape[0] != seqs.num_positions:
            raise ValueError(f"{op}: {name} is {tuple(x.shape)}, but the sequences have {seqs.num_positions} positions")
        if x.device != seqs.device:
            raise ValueError(f"{op}: {name} is on {x.device}, but the sequences are on {seqs.device}")


def require_shape(op: str, name: str, x: Tensor, *shape: int) -> None:
    """Raises ValueError unless the tensor has this shape."""
    if tuple(x.shape) != shape:
        raise ValueError(f"{op}: {name} is {tuple(x.shape)}, but this call needs {shape}")


def require_state(op: str, name: str, state: Tensor | None, seqs: Sequences, *row: int) -> None:
    """Raises ValueError unless each slot has this shape and its own memory, and the slots of the sequences exist."""
    if state is None:
        return
    require_plain(op, name, state)
    if tuple(state.shape[1:]) != row or not state.dim():
        raise ValueError(f"{op}: {name} has {tuple(state.shape[1:])} numbers per slot, but this call needs {row}")
    if state.device != seqs.device:
        raise ValueError(f"{op}: {name} is on {state.device}, but the sequences are on {seqs.device}")
    if any(n > 1 and stride == 0 for n, stride in zip(state.shape, state.stride(), strict=True)):
        raise ValueError(f"{op}: {name} is expanded: its slots share memory, but each must have its own to be written")
    seqs.require_slots(state.shape[0])
