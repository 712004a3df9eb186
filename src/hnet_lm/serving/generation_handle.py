"""What a route holds of the completions it asked for: their events as they come, and the right to drop them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from types import TracebackType
from typing import Self

from hnet_lm.generation import Event
from hnet_lm.serving.errors import internal_error

# Then it is the others' turn, also where many wait: of an answer that its client did not take for a while.
_EVENTS_AT_ONCE = 16


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
        self._events: asyncio.Queue[tuple[int, Event] | Exception] = asyncio.Queue()

    def deliver(self, item: tuple[int, Event] | Exception) -> None:
        """Called on the event loop. An exception ends all."""
        self._events.put_nowait(item)

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Each event with the index of its request, until all have finished. Raises TimeoutError at the deadline."""
        for number in count(1):
            if not self.num_running:
                return
            if number % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            async with asyncio.timeout_at(self._deadline):
                item = await self._events.get()
            if isinstance(item, Exception):
                raise item
            index, event = item
            if event.finish_reason == "error":
                raise internal_error()
            if event.finish_reason is not None:
                self.num_running -= 1
                self._finished()
            yield index, event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close(self)
