"""How a quantity changes over a run: the learning rate, and where wished the ratio loss's target and weight.

Steps count from 0; the value at step s is used for update s. The fractions are of the run's whole number of steps;
where warm-up and decay are given in steps, a longer run leaves the warm-up as it is.
"""

import math
from dataclasses import dataclass
from typing import Literal

from hnet_lm.checks import require_choice, require_number, require_whole
from hnet_lm.errors import ConfigError


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate as a factor of its peak.

    `wsd` (the paper's): linear warm-up, stable, then a decay shaped 1 - sqrt(progress) to `final`.
    `cosine`: linear warm-up, then half a cosine down to `final`.
    """

    name: Literal["wsd", "cosine"] = "wsd"
    warmup: float = 0.1
    """Fraction of the steps that warm up."""
    decay: float = 0.2
    """Fraction of the steps that decay, at the end (wsd only)."""
    warmup_steps: int | None = None
    """Steps that warm up, in place of the fraction."""
    decay_steps: int | None = None
    """Steps that decay, in place of the fraction (wsd only)."""
    final: float = 0.0
    """Factor at the end of the run."""

    def __post_init__(self) -> None:
        require_choice("schedule.name", self.name, ("wsd", "cosine"))
        for key in ("warmup", "decay", "final"):
            require_number(f"schedule.{key}", getattr(self, key), 0, 1)
        for key in ("warmup_steps", "decay_steps"):
            require_whole(f"schedule.{key}", getattr(self, key) or 0, 0)
        in_fractions = self.warmup_steps is None and self.decay_steps is None
        if self.name == "wsd" and in_fractions and self.warmup + self.decay > 1:
            raise ConfigError(f"schedule: warmup {self.warmup} and decay {self.decay} together exceed the run")
        if self.name == "wsd" and self.warmup_steps and self.decay_steps is None and self.decay == 1:
            raise ConfigError(f"schedule: with decay 1 nothing is left for {self.warmup_steps} steps of warm-up")

    def num_warmup(self, num_steps: int) -> int:
        """Steps that warm up."""
        return round(self.warmup * num_steps) if self.warmup_steps is None else self.warmup_steps

    def decay_start(self, num_steps: int) -> int:
        """The first step that decays; of a cosine, the first after the warm-up."""
        if self.name == "cosine":
            return self.num_warmup(num_steps)
        return num_steps - (round(self.decay * num_steps) if self.decay_steps is None else self.decay_steps)

    def check_length(self, num_steps: int) -> None:
        """Raises ConfigError where warm-up and decay, given in steps, do not fit into the run."""
        in_steps = self.warmup_steps is not None or self.decay_steps is not None
        if in_steps and not self.num_warmup(num_steps) <= self.decay_start(num_steps) <= num_steps:
            decay = num_steps - self.decay_start(num_steps)
            raise ConfigError(
                f"schedule: {self.num_warmup(num_steps)} steps of warm-up and {decay} of decay exceed the run of "
                f"{num_steps} steps"
            )

    def factor(self, step: int, num_steps: int) -> float:
        """The factor of the peak at which update `step` of `num_steps` runs."""
        warmup_steps = self.num_warmup(num_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if self.name == "cosine":
            progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
        decay_start = self.decay_start(num_steps)
        decayed = step - decay_start
        if decayed < 0:
            return 1.0
        return self.final + (1 - self.final) * (1 - math.sqrt(min(1.0, (decayed + 1) / (num_steps - decay_start))))


def ramp(start: float, end: float, over: float, step: float, num_steps: int) -> float:
    """From `start` to `end`, linear over the first `over` (a fraction) of the steps, then constant; `start` before."""
    if over == 0:
        return end if step >= 0 else start
    return start + (end - start) * min(1.0, max(0.0, step / (over * num_steps)))
