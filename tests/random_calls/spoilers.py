"""Wrong arguments of every kind, made from right ones.

Some change only the layout or the type of what is passed and leave the call a right one; whoever uses them must accept
either a refusal or the right result.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor

from hnet_lm.sequences import Sequences
from hnet_lm.state import State

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.complex64, torch.bool)
DTYPES += (torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16)

NOT_NUMBERS = (None, "3", b"3", [1], {}, object())
NUMBERS = (-2, -1, 0, 1, 2, 7, True, 2.5, -0.5, float("nan"), float("inf"), 10**9, 2**63, -(2**63), 2**70)


class Tagged(Tensor):
    """A subclass of Tensor that does nothing of its own."""


def _overlapping(x: Tensor) -> Tensor:
    """The first row again and again, in one place in memory."""
    return x[:1].expand(x.shape) if x.dim() and len(x) else x


def _strided(x: Tensor) -> Tensor:
    return torch.stack([x, x], -1)[..., 0]


def _transposed(x: Tensor) -> Tensor:
    return x.transpose(0, -1).contiguous().transpose(0, -1) if x.dim() > 1 else x


def _offset(x: Tensor) -> Tensor:
    flat = torch.cat([x.new_zeros(1), x.flatten()])
    return flat[1:].view(x.shape)


def _sliced(x: Tensor) -> Tensor:
    return torch.cat([x, x], -1)[..., : x.shape[-1]] if x.dim() else x


LAYOUTS: tuple[Callable[[Tensor], Any], ...] = (_overlapping, _strided, _transposed, _offset, _sliced)
LAYOUTS += (lambda x: x.clone().as_subclass(Tagged), lambda x: torch._neg_view(-x))
SHAPES: tuple[Callable[[Tensor], Any], ...] = (
    lambda x: x[None],
    lambda x: x[..., None],
    lambda x: x.flatten(),
    lambda x: x.sum(),
    lambda x: x[:0],
    lambda x: x[..., :0],
    lambda x: x[1:],
    lambda x: x[..., 1:],
    lambda x: torch.cat([x, x[:1]]),
    lambda x: torch.cat([x, x[..., :1]], -1),
    lambda x: x.transpose(0, -1),
)
KINDS: tuple[Callable[[Tensor], Any], ...] = (
    lambda x: x.to("meta"),
    lambda x: x.to_sparse(),
    lambda x: torch.nested.nested_tensor([x, x]),
    lambda x: x.tolist(),
    lambda x: x.detach().numpy(),
)


def spoil(random: Random, value: Any) -> Any:
    """Another value in its place."""
    match value:
        case Tensor():
            return _tensor(random, value)
        case Sequences():
            return _sequences(random, value)
        case State():
            return _state(random, value)
    return random.choice(NUMBERS if random.random() < 0.7 else NOT_NUMBERS)


def _tensor(random: Random, x: Tensor) -> Any:
    try:
        match random.randrange(8):
            case 0 | 1:
                return random.choice(LAYOUTS)(x)
            case 2 | 3:
                return random.choice(SHAPES)(x)
            case 4 | 5:
                return x.to(random.choice(DTYPES))
            case 6:
                return random.choice(KINDS)(x)
    except (RuntimeError, IndexError, TypeError):  # of torch: it has no such view of this tensor
        pass
    return random.choice(NOT_NUMBERS)


def _sequences(random: Random, seqs: Sequences) -> Any:
    lengths = list(seqs.host_lengths)
    match random.randrange(6):
        case 0:
            return Sequences.from_lengths([*lengths, 1], None if seqs.slots is None else torch.arange(len(lengths) + 1))
        case 1:
            return Sequences.from_lengths(lengths[:-1])
        case 2:
            return Sequences.from_lengths(lengths, torch.tensor(random.sample(range(40), len(lengths))))
        case 3:
            return Sequences.from_lengths(random.sample(lengths, len(lengths)), seqs.slots)
        case 4:
            return random.choice([seqs.cu_seqlens, lengths])
    return random.choice(NOT_NUMBERS)


def _state(random: Random, state: State) -> Any:
    match random.randrange(4):
        case 0:
            used = state.clone()
            used.consume()
            return used
        case 1:
            return state.select([*range(state.num_sequences)][1:])
        case 2:
            return state.map(lambda x: _tensor(random, x) if random.random() < 0.3 else x)
    return random.choice(NOT_NUMBERS)
