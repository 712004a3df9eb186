"""Endless sources, mixed by their weights."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hnet_lm.data.runs import Run, run_of
from hnet_lm.data.source import PlacedPart, Source
from hnet_lm.errors import DataError


class Cursor:
    """Reads a source endlessly. `state` says where the next run begins; a cursor set to it yields the same runs."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.load_state_dict({"epoch": 0, "rank": 0, "position": None, "taken": 0, "epoch_has_parts": False})

    def state_dict(self) -> dict[str, Any]:
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._state = dict(state)
        self._parts = self._read_for_ever()
        self._next: Run | None = None

    def peek(self) -> Run:
        """The next run, without taking it."""
        if self._next is None:
            placed, epoch = next(self._parts)
            run = run_of(placed.part, self.source.index, epoch, placed.file)
            taken = self._state["taken"]
            self._next = run.after(taken) if taken else run
            self._resume = {"rank": placed.rank, "position": placed.part.resume, "taken": 0, "epoch_has_parts": True}
        return self._next

    def take(self, num_inputs: int) -> None:
        """Takes the first positions of the next run, or all of it."""
        run = self.peek()
        if num_inputs < run.num_inputs:
            self._next = run.after(num_inputs)
            self._state = {**self._state, "taken": self._state["taken"] + num_inputs}
        else:
            self._next = None
            self._state = {**self._state, **self._resume}

    def _read_for_ever(self) -> Iterator[tuple[PlacedPart, int]]:
        while True:
            epoch = self._state["epoch"]
            for placed in self.source.epoch(epoch, self._state["rank"], self._state["position"]):
                yield placed, epoch
            if not self._state["epoch_has_parts"]:
                raise DataError(f"{self.source.config.path}: no documents{self.source.share}")
            self._state = {"epoch": epoch + 1, "rank": 0, "position": None, "taken": 0, "epoch_has_parts": False}


class Mixture:
    """Yields the run of the source that is furthest behind its share of all positions so far.

    The shares are exact in the long run, whatever the lengths of documents. Nothing is random here, since the shuffle
    comes afterwards. When the weights change, the shares are counted anew.
    """

    def __init__(self, sources: list[Source], changes: Sequence[tuple[float, Sequence[float]]] = ()) -> None:
        """`changes` are numbers of positions of this mixture, in rising order, with the weights from there on."""
        self._cursors = [Cursor(source) for source in sources]
        self._places = [place for place, _ in changes]
        self._weights = [[source.config.weight for source in sources], *(list(weights) for _, weights in changes)]
        self._given = [0] * len(sources)  # since the weights changed last
        self._before = 0  # given until then

    @property
    def weights(self) -> list[float]:
        """The current weights of the sources."""
        return self._weights[bisect_right(self._places, self._before)]

    def peek(self) -> Run:
        """The next run, without taking it."""
        return self._cursors[self._behind()].peek()

    def take(self, num_inputs: int) -> None:
        """Takes the first positions of the next run, or all of it."""
        source = self._behind()
        self._cursors[source].take(num_inputs)
        self._given[source] += num_inputs
        total = self._before + sum(self._given)
        if bisect_right(self._places, total) > bisect_right(self._places, self._before):
            self._given, self._before = [0] * len(self._given), total

    def state_dict(self) -> dict[str, Any]:
        before = {"before": self._before} if self._before else {}
        return {"given": list(self._given), "sources": [cursor.state_dict() for cursor in self._cursors], **before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._given, self._before = list(state["given"]), state.get("before", 0)
        for cursor, saved in zip(self._cursors, state["sources"], strict=True):
            cursor.load_state_dict(saved)

    def _behind(self) -> int:
        if len(self._given) == 1:
            return 0
        pairs = zip(self._given, self.weights, strict=True)
        filled = [given / weight if weight else math.inf for given, weight in pairs]
        return filled.index(min(filled))
