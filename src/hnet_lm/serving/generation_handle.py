"""The completions that a route asked for: their events as they arrive, and the means to cancel them.

Each event that is sent costs the event loop a fraction of a millisecond. If the loop cannot keep up with the model, the
events that have arrived for a completion are handed over as one: a busy server sends more at a time, not later.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import count
from types import TracebackType
from typing import Self

from hnet_lm.generation import Event
from hnet_lm.serving.errors import internal_error

# After so many events other tasks run, even if more are waiting because the client was slow to read.
_EVENTS_AT_ONCE = 16

# Numbers that joined events may report in all: encoding them must not take long.
_NUMBERS_AT_ONCE = 256


class GenerationHandle:
    """The completions of one HTTP request. A context manager: completions still running at its end are cancelled.

    Each completion counts as running or waiting until `finished` is called for it, or `close` for all that are left.
    `num_numbers` is the most that the answer reports, and holds in memory until then.
    """

    def __init__(
        self,
        num_requests: int,
        num_numbers: int,
        deadline: float,
        finished: Callable[[], None],
        close: Callable[["GenerationHandle"], None],
    ) -> None:
        self.num_numbers = num_numbers
        self.num_running = num_requests
        self._deadline = deadline  # on the event loop's clock
        self._finished = finished
        self._close = close
        self._events: dict[int, deque[Event]] = {}  # by request; requests without events are absent
        self._error: Exception | None = None
        self._has_come = asyncio.Event()

    def deliver(self, index: int, event: Event) -> None:
        """Called on the event loop: an event for the request with this index."""
        self._events.setdefault(index, deque()).append(event)
        self._has_come.set()

    def fail(self, error: Exception) -> None:
        """Called on the event loop: nothing more will come."""
        self._error = error
        self._has_come.set()

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Each event with the index of its request, until all have finished. Raises TimeoutError at the deadline."""
        for number in count(1):
            if not self.num_running:
                return
            if number % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if not self._has_come.is_set():
                async with asyncio.timeout_at(self._deadline):
                    await self._has_come.wait()
            elif asyncio.get_running_loop().time() > self._deadline:
                raise TimeoutError
            if not self._events:
                assert self._error is not None
                raise self._error
            index, event = self._next()
            if event.finish_reason == "error":
                raise internal_error()
            if event.finish_reason is not None:
                self.num_running -= 1
                self._finished()
            yield index, event

    def _next(self) -> tuple[int, Event]:
        """The waiting events of one request, joined; requests take turns."""
        index, waiting = next(iter(self._events.items()))
        del self._events[index]
        taken = [waiting.popleft()]
        num_numbers = taken[0].num_numbers
        while waiting and num_numbers + waiting[0].num_numbers <= _NUMBERS_AT_ONCE:
            taken.append(waiting.popleft())
            num_numbers += taken[-1].num_numbers
        if waiting:
            self._events[index] = waiting
        if not self._events and self._error is None:
            self._has_come.clear()
        return index, Event.joined(taken)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close(self)
