"""How many updates a run of `run.minutes` has, decided from measured ones before any of them depends on it.

What every update of a run does follows from its configuration and its number of steps. A run of so many minutes finds
that number on its way, and does at each moment what every number that is still open would do:

    before the first update   a few are tried, without effect. They give a first number of steps, and from it the
                              lengths of the warm-up and of the ramp of the ratio loss, which stay as they are.
    warm-up, stable           the number is corrected after every update.
    decay                     begins when the rest of the run fits into the time that is left; from here the number
                              is final. (A cosine depends on it from the end of the warm-up on, and with terms added to
                              the loss, which are told how far the run is, every update does.)

So the run equals one that is given these three numbers, bit for bit. The plan is part of every checkpoint.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from hnet_lm.losses import parse_terms
from hnet_lm.training.config import RunConfig
from hnet_lm.training.schedule import ScheduleConfig

RECENT = 0.2
"""The pace is that of the last updates, so many of those made."""
MIN_RECENT, MAX_RECENT = 8, 1000
REPORT = 0.5  # seconds that the report and its figure take
SNAP = 0.007
"""A number of steps may be so much off to be one from which the run file's own fraction gives the warm-up of the plan:
then this number alone repeats the run."""


@dataclass(frozen=True)
class Plan:
    """What is known of the length of a run of so many minutes."""

    num_steps: int
    warmup_steps: int
    ramp_steps: int
    is_final: bool = False

    @classmethod
    def first(cls, config: RunConfig, num_steps: int, step: int = 0) -> "Plan":
        """From a first estimate of the number of steps, when `step` are made."""
        warmup = config.schedule.num_warmup(num_steps)
        loss = config.loss
        ramp = round(loss.ramp * num_steps) if loss.ramp_steps is None else loss.ramp_steps
        return cls(0, warmup, ramp).revised(config, num_steps, step)

    def applied_to(self, config: RunConfig) -> RunConfig:
        """The run with the lengths of the plan in the place of minutes."""
        return dataclasses.replace(
            config,
            run=dataclasses.replace(config.run, num_steps=self.num_steps, minutes=None),
            schedule=dataclasses.replace(config.schedule, warmup_steps=self.warmup_steps),
            loss=dataclasses.replace(config.loss, ramp_steps=self.ramp_steps),
        )

    def revised(self, config: RunConfig, num_steps: int, step: int) -> "Plan":
        """With another number of steps, if that is open: the nearest one of which the first `step` updates are made."""
        if self.is_final:
            return self
        schedule = self._schedule(config)
        num_steps = max(num_steps, least_steps(schedule, max(step, self.warmup_steps)), 1)
        return dataclasses.replace(self, num_steps=num_steps)

    def decays_from(self, config: RunConfig, step: int) -> bool:
        """Whether update `step` is one that depends on the number of steps; terms of the loss may from the start."""
        ramps_later = config.loss.ramps and config.loss.ramp_after > 0
        reads_progress = ramps_later or any(term.reads_progress for term in parse_terms(config.loss.terms))
        return reads_progress or step >= self._schedule(config).decay_start(self.num_steps)

    def _schedule(self, config: RunConfig) -> ScheduleConfig:
        return dataclasses.replace(config.schedule, warmup_steps=self.warmup_steps)

    def snapped(self, config: RunConfig, num_steps: int) -> int:
        """The number of steps, or one close to it that by itself gives the plan's warm-up."""
        reach = int(SNAP * num_steps)
        nearby = sorted(range(num_steps - reach, num_steps + reach + 1), key=lambda n: abs(n - num_steps))
        return next((n for n in nearby if config.schedule.num_warmup(n) == self.warmup_steps), num_steps)

    def options(self, config: RunConfig) -> str:
        """The arguments with which `hnet-lm train` makes the same run from the same run file."""
        given = [f"--run.num-steps {self.num_steps}"]
        if config.schedule.num_warmup(self.num_steps) != self.warmup_steps:
            given.append(f"--schedule.warmup-steps {self.warmup_steps}")
        loss = config.loss
        if loss.ramps and loss.ramp_steps is None and loss.ramp * self.num_steps != self.ramp_steps:
            given.append(f"--loss.ramp-steps {self.ramp_steps}")
        return " ".join(given)


def least_steps(schedule: ScheduleConfig, start: int) -> int:
    """The fewest steps of a run whose decay begins no earlier than at step `start`."""
    num_steps = start
    while (missing := start - schedule.decay_start(num_steps)) > 0:
        num_steps += missing
    return num_steps


@dataclass
class Costs:
    """Seconds of what a run does besides updates, as last measured; None: not yet."""

    validation: float | None = None
    checkpoint: float | None = None


class Pace:
    """How fast a run is, on one rank, and how many steps the time that is left allows."""

    def __init__(self, config: RunConfig) -> None:
        assert config.run.minutes is not None
        self.config = config
        self.seconds = 60 * config.run.minutes
        self.costs = Costs()
        self._recent: deque[float] = deque(maxlen=MAX_RECENT)

    @property
    def is_known(self) -> bool:
        """Whether any update has been measured."""
        return bool(self._recent)

    @property
    def knows_costs(self) -> bool:
        """Whether it is known what the end of the run will take."""
        return self.costs.checkpoint is not None and (
            self.costs.validation is not None or not self.config.validation.is_on
        )

    @contextmanager
    def timed(self, what: Literal["validation", "checkpoint"]) -> Iterator[None]:
        """The block is what the next one of its kind will take."""
        started = monotonic()
        yield
        setattr(self.costs, what, monotonic() - started)

    def update_took(self, seconds: float, num_made: int) -> None:
        """The last of `num_made` updates took so long."""
        self._recent.append(seconds)
        while len(self._recent) > max(MIN_RECENT, RECENT * num_made):
            self._recent.popleft()

    def num_steps(self, step: int, elapsed: float) -> int:
        """Steps in all, when `step` are made and so many seconds of the run are over."""
        of_update = sum(self._recent) / len(self._recent)
        costs = self.costs
        of_validation, of_checkpoint = costs.validation or 0.0, costs.checkpoint or 0.0
        validation, every = self.config.validation, self.config.checkpoints.every
        left = self.seconds - elapsed - of_checkpoint - REPORT
        left -= of_validation if validation.is_on else 0.0
        num_steps = step + int(left / of_update)
        for _ in range(3):  # the fewer steps, the fewer validations and checkpoints on the way
            last = max(step, num_steps - 1)
            aside = (last // every - step // every) * of_checkpoint
            if validation.is_on:
                aside += (last // validation.every - step // validation.every) * (of_validation + of_checkpoint)
            num_steps = step + int(max(0.0, left - aside) / of_update)
        return num_steps
