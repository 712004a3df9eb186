"""What decodes: a model and the state of many streams, which it owns for as long as it lives.

A stream is a sequence that goes on from call to call: `admit` gives it a slot, `extend` and `step` read more of its
ids, `drop` frees its slot and its pages. Joining and leaving copies nothing. Spans run through the model's own forward;
how one byte of each stream is read is what steppers differ in (`_step`), and each gives what the forward gives.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hnet_lm.errors import ConfigError
from hnet_lm.generation.boundaries import ByteBoundary, byte_boundaries
from hnet_lm.generation.rounded_weights import Weights, with_weights
from hnet_lm.generation.stepper.pages import PagePool
from hnet_lm.generation.stepper.stream_memory import StreamMemory
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences
from hnet_lm.state import State

KeysValues = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class StepOutput:
    """What one call said of its streams, in the order in which they were given."""

    logits: Float[Tensor, "t v"]
    """Of the id after each position, in at least float32."""
    boundaries: Callable[[int], list[ByteBoundary]]
    """Of the positions that the i-th stream of the call has read; reckoned when it is asked for."""


class Stepper(ABC):
    """Steps of up to `max_streams` streams. Not to be used by two threads at once."""

    asks_device: ClassVar[bool] = True
    """Whether every step asks how many positions each stage has seen, and so holds no page that it does not need."""

    def __init__(
        self,
        model: HNetLM,
        max_streams: int,
        *,
        weights: Weights | None = None,
        pool_bytes: int = 2**30,
        keys_values: KeysValues | None = None,
    ) -> None:
        """`weights` rounds the linear maps (`rounded_weights`); `keys_values` is the type in which the pool holds them.

        Raises ConfigError for a model that this stepper does not support, and for a pool too small for one stream.
        """
        self.model = model if weights is None else with_weights(model, weights)
        reason = self.supports(self.model)
        if reason is not None:
            raise ConfigError(f"{type(self).__name__} does not support this model: {reason}")
        self.max_streams = max_streams
        dtype = None if keys_values is None else getattr(torch, keys_values)
        self.memory = StreamMemory(self.model, max_streams, pool_bytes, dtype)
        self._free = list(range(max_streams - 1, -1, -1))
        self._admitted: set[int] = set()

    @classmethod
    def supports(cls, model: HNetLM) -> str | None:
        """None, or the reason why this stepper cannot decode with this model."""
        return None

    @property
    def state(self) -> State:
        """The state of all slots, in memory that never moves."""
        return self.memory.state

    @property
    def pool(self) -> PagePool:
        return self.memory.pool

    @property
    def state_bytes(self) -> int:
        """Bytes of state of the streams that are admitted now: their rows and their pages."""
        num_pages = self.pool.num_pages - self.pool.num_free
        return len(self._admitted) * self.memory.row_bytes + num_pages * self.pool.page_bytes

    def least_pages(self, num_positions: int) -> int:
        """The fewest pages that a stream of so many positions may take."""
        return self.memory.least_pages(num_positions)

    def num_pages(self, stream: int) -> int:
        """How many pages a stream has now."""
        return self.memory.num_held(stream)

    def room(self, streams: Sequence[int], wanted: Sequence[int]) -> list[int]:
        """How many of the wanted positions each stream can surely read now, the first ones before the others."""
        return self.memory.room(streams, wanted, exact=self.asks_device)

    @torch.inference_mode()
    def admit(self) -> int:
        """A slot for a new stream, of which nothing has been read. Raises ValueError when all are taken."""
        if not self._free:
            raise ValueError(f"all {self.max_streams} streams of this stepper are in use")
        stream = self._free.pop()
        self.memory.reset(stream)
        self._admitted.add(stream)
        return stream

    def drop(self, stream: int) -> None:
        """Free the slot and the pages of a stream."""
        self._require_admitted([stream])
        self._admitted.remove(stream)
        self.memory.release(stream)
        self._free.append(stream)

    @torch.inference_mode()
    def extend(self, streams: Sequence[int], ids: Sequence[Sequence[int]]) -> StepOutput:
        """Read any number of ids of each stream; logits of all positions, packed. Raises OutOfPages."""
        self._check(streams, [i for some in ids for i in some], len(ids))
        self.memory.reserve(streams, [len(some) for some in ids], exact=self.asks_device)
        try:
            return self._forward(streams, ids)
        finally:
            self.memory.trim(streams)

    @torch.inference_mode()
    def step(self, streams: Sequence[int], ids: Sequence[int]) -> StepOutput:
        """Read one id of each stream; logits (n, v). Raises OutOfPages."""
        self._check(streams, ids, len(ids))
        self.memory.reserve(streams, [1] * len(streams), exact=self.asks_device)
        return self._step(streams, ids)

    @abstractmethod
    def _step(self, streams: Sequence[int], ids: Sequence[int]) -> StepOutput:
        """One id of each stream; everything is checked, and there are pages for it."""

    def _forward(self, streams: Sequence[int], ids: Sequence[Sequence[int]]) -> StepOutput:
        device = self.model.device
        slots = torch.tensor(streams, dtype=torch.int64, device=device)
        seqs = Sequences.from_lengths([len(some) for some in ids], slots, device)
        flat = torch.tensor([i for some in ids for i in some], dtype=torch.int64, device=device)
        out = self.model(flat, seqs, self.memory.view())
        assert out.state is not None
        self.memory.take_back(out.state, slots)
        logits = out.logits.to(torch.promote_types(out.logits.dtype, torch.float32))
        return StepOutput(logits, partial(byte_boundaries, out.routings))

    def _check(self, streams: Sequence[int], ids: Sequence[int], num_given: int) -> None:
        if num_given != len(streams):
            raise ValueError(f"ids of {num_given} streams are given for {len(streams)} streams")
        self._require_admitted(streams)
        if len(set(streams)) < len(streams):
            raise ValueError(f"a stream is named twice: {list(streams)}")
        vocab_size = self.model.config.vocab_size
        if ids and not (min(ids) >= 0 and max(ids) < vocab_size):
            raise ValueError(f"ids must be from 0 to {vocab_size - 1}, got {min(ids)} to {max(ids)}")

    def _require_admitted(self, streams: Sequence[int]) -> None:
        for stream in streams:
            if stream not in self._admitted:
                raise ValueError(f"stream {stream} is not admitted")
