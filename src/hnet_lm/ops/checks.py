"""What every op checks at its door, so that a wrong argument is a ValueError on every backend."""

from torch import Tensor

from hnet_lm.sequences import Sequences


def require_rows(op: str, seqs: Sequences, **tensors: Tensor) -> None:
    """Raises ValueError unless each tensor has one row per position, on the device of the sequences."""
    for name, x in tensors.items():
        if x.dim() == 0 or x.shape[0] != seqs.num_positions:
            raise ValueError(f"{op}: {name} is {tuple(x.shape)}, but the sequences have {seqs.num_positions} positions")
        if x.device != seqs.device:
            raise ValueError(f"{op}: {name} is on {x.device}, but the sequences are on {seqs.device}")


def require_shape(op: str, name: str, x: Tensor, *shape: int) -> None:
    """Raises ValueError unless the tensor has this shape."""
    if tuple(x.shape) != shape:
        raise ValueError(f"{op}: {name} is {tuple(x.shape)}, but this call needs {shape}")


def require_floating(op: str, **tensors: Tensor | None) -> None:
    """Raises ValueError unless all are real floating-point numbers on one device."""
    device = None
    for name, x in tensors.items():
        if x is None:
            continue
        if not x.is_floating_point():
            raise ValueError(f"{op}: {name} must be of a floating-point type, not {x.dtype}")
        if device is not None and x.device != device:
            raise ValueError(f"{op}: {name} is on {x.device}, another argument on {device}")
        device = x.device


def require_state(op: str, name: str, state: Tensor | None, seqs: Sequences, *row: int) -> None:
    """Raises ValueError unless each slot of the state has this shape and the sequences' slots exist."""
    if state is None:
        return
    if tuple(state.shape[1:]) != row or not state.dim():
        raise ValueError(f"{op}: {name} has {tuple(state.shape[1:])} numbers per slot, but this call needs {row}")
    if state.device != seqs.device:
        raise ValueError(f"{op}: {name} is on {state.device}, but the sequences are on {seqs.device}")
    seqs.require_slots(state.shape[0])
