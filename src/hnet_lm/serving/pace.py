"""Estimates how long a request would wait, from how fast the model has worked lately.

Half of the time the shortest prompts are read first, so a new prompt waits, for each prompt being read, no longer than
reading as many bytes of its own would take. Slots become free as completions end.
"""

from collections.abc import Sequence

from hnet_lm.generation import Engine, Request

_HALF_LIFE_SECONDS = 10.0
_LEAST_SECONDS = 1.0
"""Seconds of work before there is an estimate."""


class Pace:
    """An amount per second of work, with a half-life of so many seconds of work."""

    def __init__(self) -> None:
        self._amount = 0.0
        self._seconds = 0.0

    def add(self, amount: float, seconds: float) -> None:
        kept = 0.5 ** (seconds / _HALF_LIFE_SECONDS)
        self._amount = self._amount * kept + amount
        self._seconds = self._seconds * kept + seconds

    def seconds_for(self, amount: float) -> float:
        """How long this amount takes; 0 while nothing is known yet."""
        if amount <= 0 or self._amount == 0 or self._seconds < _LEAST_SECONDS:
            return 0.0
        return amount * self._seconds / self._amount


class Waits:
    """State: the pace at which an engine reads prompts, and at which its completions end."""

    def __init__(self) -> None:
        self._reading = Pace()
        self._ending = Pace()

    def add_step(self, seconds: float, num_read: int, num_ended: int) -> None:
        """Record one step of the engine: the prompt ids it read, and the completions that ended in it.

        Completions that are cancelled between steps count as ended in 0 seconds.
        """
        if num_read:
            self._reading.add(num_read, seconds)
        self._ending.add(num_ended, seconds)

    def before_reading(self, engine: Engine, requests: Sequence[Request]) -> float:
        """Seconds until the model gets to these prompts."""
        longest = max(len(request.prompt) for request in requests)
        num_missing_slots = engine.num_active + engine.num_queued + len(requests) - engine.max_active
        return self._ending.seconds_for(num_missing_slots) + self._reading.seconds_for(engine.num_before(longest))

    def for_reading(self, requests: Sequence[Request]) -> float:
        """Seconds to read these prompts."""
        return self._reading.seconds_for(sum(len(request.prompt) for request in requests))
