"""What a route holds of the completions it asked for: their events as they come, and the right to drop them.

Each event that is sent costs the event loop a fraction of a millisecond. So where it cannot keep up with the model,
what has come for a completion meanwhile is handed over as one event: a busy server sends more at a time, not later.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import count
from types import TracebackType
from typing import Self

from hnet_lm.generation import Event
from hnet_lm.serving.errors import internal_error

# Then it is the others' turn, also where many wait: of an answer that its client did not take for a while.
_EVENTS_AT_ONCE = 16

# Numbers that events handed over as one may report: encoding them must not take long.
_NUMBERS_AT_ONCE = 256


class GenerationHandle:
    """The completions of one HTTP request. A context manager: whatever still runs at its end is dropped.

    Each completion counts among those that run or wait until `finished` is called for it, or `close` for what is left.
    `num_numbers` is what the answer reports at most, and keeps in memory until then.
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
        self._events: dict[int, deque[Event]] = {}  # by request, none without any
        self._error: Exception | None = None
        self._has_come = asyncio.Event()

    def deliver(self, index: int, event: Event) -> None:
        """Called on the event loop: what has come for the request of this index."""
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
        """What has come for one request, as one event; the next time it is another's turn."""
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
