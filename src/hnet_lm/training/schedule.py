"""How a quantity changes over a run: the learning rate, and where wished the ratio loss's target and weight.

Steps count from 0; the value at step s is used for update s. The fractions are of the run's whole number of steps.
"""

import math
from dataclasses import dataclass
from typing import Literal

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
    final: float = 0.0
    """Factor at the end of the run."""

    def __post_init__(self) -> None:
        if self.name not in ("wsd", "cosine"):
            raise ConfigError(f"schedule.name: must be 'wsd' or 'cosine', got {self.name!r}")
        for key in ("warmup", "decay", "final"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"schedule.{key}: must lie in 0 .. 1, got {getattr(self, key)}")
        if self.name == "wsd" and self.warmup + self.decay > 1:
            raise ConfigError(f"schedule: warmup {self.warmup} and decay {self.decay} together exceed the run")

    def factor(self, step: int, num_steps: int) -> float:
        """The factor of the peak at which update `step` of `num_steps` runs."""
        warmup_steps = round(self.warmup * num_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if self.name == "cosine":
            progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
        decay_steps = round(self.decay * num_steps)
        decayed = step - (num_steps - decay_steps)
        if decayed < 0:
            return 1.0
        return self.final + (1 - self.final) * (1 - math.sqrt(min(1.0, (decayed + 1) / decay_steps)))


def ramp(start: float, end: float, over: float, step: int, num_steps: int) -> float:
    """From `start` to `end`, linear over the first `over` (a fraction) of the run, then constant."""
    if over == 0:
        return end
    return start + (end - start) * min(1.0, step / (over * num_steps))
