"""The state of many streams in memory that never moves: a row of every tensor per stream, and pages of a pool.

The tree is the model's own state, in which a `PagedKVState` stands for every `KVState`. Streams come and go by their
rows and pages; nothing is copied for the others, so addresses may be kept.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.generation.stepper.pages import OutOfPages, PagedStage, PagePool
from hnet_lm.model import HNetLM
from hnet_lm.model.dynamic_chunking.chunkers.entropy import EntropyState
from hnet_lm.model.hnet import HNetState
from hnet_lm.ops.attention import KVState, PagedKVState
from hnet_lm.state import State

PAGE_POSITIONS = 16
"""Positions in a page of the widest attention layer; a narrower layer has more of them in a page of the same size."""


class StreamMemory:
    """`state` is the master copy: `view()` is what a forward may consume, and `take_back` what it returns."""

    def __init__(self, model: HNetLM, max_streams: int, pool_bytes: int, dtype: torch.dtype | None) -> None:
        self._max_streams = max_streams
        fresh = model.new_state(1)
        layers = _attention_layers(fresh, model.config)
        self.pool = _pool(list(layers.values()), max_streams, pool_bytes, dtype, model.device)
        self.stages = [
            PagedStage(self.pool, max_streams, layer.num_layers, layer.num_heads, layer.head_dim, layer.window)
            for layer in layers.values()
        ]
        self._sees_every_byte = [key.stage == 0 for key in layers]
        states = {key: iter(stage.states) for key, stage in zip(layers, self.stages, strict=True)}

        def paged(key: _Key, state: KVState) -> State:
            return next(states[key.of(state)])

        self.state = _replaced(model.new_state(max_streams), _Key(model.config, 0), paged)
        self._rows = list(zip(row_tensors(self.state), row_tensors(fresh), strict=True))

    @property
    def row_bytes(self) -> int:
        """Bytes of state of one stream, without its pages."""
        return sum(fresh.numel() * fresh.element_size() for _, fresh in self._rows)

    def reset(self, stream: int) -> None:
        """The stream's state as that of a sequence of which nothing has been seen."""
        for owned, fresh in self._rows:
            owned[stream] = fresh[0]
        for stage in self.stages:
            stage.reset(stream)

    def view(self) -> State:
        """The state as new objects over the same memory."""
        return self.state.map(lambda tensor: tensor)

    def take_back(self, returned: State, streams: Int[Tensor, " b"]) -> None:
        """Copy the rows of these streams home where a forward has put them into other memory."""
        for (owned, _), tensor in zip(self._rows, row_tensors(returned), strict=True):
            if tensor.data_ptr() != owned.data_ptr():
                owned[streams] = tensor[streams]

    def least_pages(self, num_positions: int) -> int:
        """The fewest pages that a stream of so many positions may take: how many chunks it makes is not known."""
        counts = [num_positions if every else min(num_positions, 1) for every in self._sees_every_byte]
        return sum(stage.num_pages(count) for stage, count in zip(self.stages, counts, strict=True))

    def num_held(self, stream: int) -> int:
        """How many pages a stream has."""
        return sum(stage.num_held(stream) for stage in self.stages)

    def room(self, streams: Sequence[int], wanted: Sequence[int], *, exact: bool = True) -> list[int]:
        """How many of the wanted positions each stream can surely take now, the first before the others.

        Every position could be a chunk in every stage, so that is what is reckoned with.
        """
        if self._num_missing(streams, wanted) <= self.pool.num_free:
            return list(wanted)
        self._look_again(exact)
        granted, free = [], self.pool.num_free
        for stream, most in zip(streams, wanted, strict=True):

            def missing(length: int, stream: int = stream) -> int:
                return self._num_missing([stream], [length])

            granted.append(bisect_right(range(1, most + 1), free, key=missing))
            free -= missing(granted[-1])
        return granted

    def reserve(self, streams: Sequence[int], lengths: Sequence[int], *, exact: bool = True) -> None:
        """Pages for so many more positions of each stream. Raises OutOfPages, and then nothing has changed.

        Where it need not be exact, pages may be taken for positions that do not become chunks, and the device is asked
        only when there are too few.
        """
        if exact or self._num_missing(streams, lengths) > self.pool.num_free:
            self._look_again(exact)
        missing = self._num_missing(streams, lengths)
        if missing > self.pool.num_free:
            raise OutOfPages(f"{missing} pages may be needed and {self.pool.num_free} are free")
        for stage in self.stages:
            for stream, length in zip(streams, lengths, strict=True):
                stage.grow(stream, length)

    def _look_again(self, exact: bool) -> None:
        """What there really is; what was taken for nothing is given back."""
        self.learn() if exact else self.trim(range(self._max_streams))

    def learn(self) -> None:
        """Ask the device how much every stage has seen."""
        for stage in self.stages:
            stage.learn(stage.num_seen.tolist(), stage.asked)

    def learned(self, known: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
        """How much every stage had seen when it had been asked for so much; pages not needed are given back."""
        for stage, (num_seen, asked) in zip(self.stages, known, strict=True):
            stage.learn(num_seen, asked)
            for stream in range(self._max_streams):
                stage.trim(stream)

    def trim(self, streams: Iterable[int]) -> None:
        """Give back the pages that turned out not to be needed."""
        self.learn()
        for stage in self.stages:
            for stream in streams:
                stage.trim(stream)

    def release(self, stream: int) -> None:
        """Give back all pages of a stream."""
        for stage in self.stages:
            stage.release(stream)

    def _num_missing(self, streams: Sequence[int], lengths: Sequence[int]) -> int:
        return sum(stage.num_missing(streams, lengths) for stage in self.stages)


@dataclass(frozen=True)
class _Key:
    """Whose layers: those of one window in a stage of the model, or of the byte model that an entropy chunker asks."""

    config: HNetConfig
    stage: int
    window: int = -1

    def of(self, state: KVState) -> "_Key":
        assert state.window is not None
        return replace(self, window=state.window)


@dataclass
class _Layers:
    num_layers: int
    num_heads: int
    head_dim: int
    window: int
    dtype: torch.dtype


def _attention_layers(fresh: State, config: HNetConfig) -> dict[_Key, _Layers]:
    """The attention layers of every stage that has any, by window."""
    found: dict[_Key, _Layers] = {}

    def note(key: _Key, state: KVState) -> State:
        num_heads, head_dim = state.keys.shape[2:]
        key = key.of(state)
        found.setdefault(key, _Layers(0, num_heads, head_dim, key.window, state.keys.dtype)).num_layers += 1
        return state

    _replaced(fresh, _Key(config, 0), note)
    return found


def _pool(
    layers: Sequence[_Layers], max_streams: int, pool_bytes: int, dtype: torch.dtype | None, device: torch.device
) -> PagePool:
    """As many pages as the bytes give, but no more than all streams together can fill."""
    if not layers:
        return PagePool(0, 0, torch.float32, device)
    dtype = dtype or max((layer.dtype for layer in layers), key=lambda each: each.itemsize)
    page_numbers = PAGE_POSITIONS * max(2 * layer.num_heads * layer.head_dim for layer in layers)
    num_pages = pool_bytes // (page_numbers * dtype.itemsize)
    at_least = sum(layer.num_layers for layer in layers)
    if num_pages < at_least:
        raise ConfigError(
            f"a pool of {pool_bytes:,} bytes is too small for the keys and values of even one stream: "
            f"this model needs {at_least * page_numbers * dtype.itemsize:,} or more"
        )
    if all(layer.window >= 0 for layer in layers):
        pages_in_ring = [
            -(-(layer.window + 1) // (page_numbers // (2 * layer.num_heads * layer.head_dim))) for layer in layers
        ]
        most = sum(layer.num_layers * pages for layer, pages in zip(layers, pages_in_ring, strict=True))
        num_pages = min(num_pages, max_streams * most)
    return PagePool(num_pages, page_numbers, dtype, device)


def _replaced(node: Any, key: _Key, exchange: Callable[[_Key, KVState], State]) -> Any:
    """A state tree with another state for every KVState; `key` says whose state `node` is."""
    if isinstance(node, KVState):
        return exchange(key, node)
    if isinstance(node, tuple):
        return tuple(_replaced(child, key, exchange) for child in node)
    if not isinstance(node, State):
        return node
    children = {}
    for field in fields(node):
        child_key = key
        if isinstance(node, HNetState) and field.name == "main_network":
            child_key = _Key(key.config, key.stage + 1)
        elif isinstance(node, EntropyState) and key.config.byte_model is not None:
            child_key = _Key(key.config.byte_model, 0)
        children[field.name] = _replaced(getattr(node, field.name), child_key, exchange)
    return type(node)(**children)


def row_tensors(node: Any) -> Iterator[Tensor]:
    """The tensors of a state tree that have a row per stream. Keys and values do not count among them."""
    if isinstance(node, KVState | PagedKVState):
        yield node.num_seen
    elif isinstance(node, Tensor):
        yield node
    elif isinstance(node, State):
        for field in fields(node):
            yield from row_tensors(getattr(node, field.name))
    elif isinstance(node, tuple):
        for child in node:
            yield from row_tensors(child)
