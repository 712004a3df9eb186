"""How rotary frequencies are changed to reach further than a model was trained for.

Unchanged, pair i of `dim` rotated entries turns by f_i = base^(-2i/dim) radians per position. Each way of `SCALINGS`
slows the slow pairs down by `factor`, which have not made a whole turn in the positions of training:

- linear: f_i / factor, all pairs alike (Chen et al., arXiv 2306.15595)
- llama3: f_i / factor where a pair makes fewer than `low_freq_factor` turns in `original_max_position_embeddings`
  positions, f_i where it makes more than `high_freq_factor`, between them a mix that is linear in the turns (Llama 3.1)
- yarn: the same between `beta_slow` and `beta_fast` turns, with a mix that is linear in i, and cosines and sines are
  multiplied by a magnitude, 0.1 ln(factor) + 1 by default (Peng et al., arXiv 2309.00071)

Keys are those of a transformers config (`rope_type`, `factor`, ...).
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self

from hnet_lm.checks import require_number
from hnet_lm.errors import ConfigError, unknown_key


@dataclass(frozen=True)
class RotaryScaling:
    """All pairs `factor` times slower."""

    rope_type: ClassVar[str] = "linear"
    factor: float

    def __post_init__(self) -> None:
        for key in fields(self):
            value = getattr(self, key.name)
            if value is not None and not isinstance(value, bool):
                require_number(f"rotary_scaling.{key.name}", value, above=0)

    def frequencies(self, dim: int, base: float) -> tuple[float, ...]:
        """Radians per position of each of the dim/2 pairs."""
        return tuple(frequency / self.factor for frequency in plain_frequencies(dim, base))

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0

    @classmethod
    def parsed(cls, data: Mapping[str, Any]) -> Self:
        """Raises ConfigError for keys that are missing or unknown."""
        known = [key.name for key in fields(cls)]
        for key in data:
            if key not in known:
                raise unknown_key(key, ["rope_type", *known], "rotary_scaling")
        for key in fields(cls):
            if key.name not in data and key.default is MISSING:
                raise ConfigError(f"rotary_scaling: {key.name!r} is missing")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """What `parse_scaling` reads."""
        given = {key.name: getattr(self, key.name) for key in fields(self)}
        return {"rope_type": self.rope_type} | {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Llama3Scaling(RotaryScaling):
    """By the turns that a pair makes in the positions of training."""

    rope_type: ClassVar[str] = "llama3"
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low_freq_factor >= self.high_freq_factor:
            factors = f"{self.low_freq_factor}, that is {self.high_freq_factor}"
            raise ConfigError(f"rotary_scaling.low_freq_factor: must be below high_freq_factor, got {factors}")

    def frequencies(self, dim: int, base: float) -> tuple[float, ...]:
        scaled = []
        for frequency in plain_frequencies(dim, base):
            turns = self.original_max_position_embeddings * frequency / (2 * math.pi)
            kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
            kept = min(max(kept, 0.0), 1.0)
            scaled.append(kept * frequency + (1 - kept) * frequency / self.factor)
        return tuple(scaled)


@dataclass(frozen=True)
class YarnScaling(RotaryScaling):
    """By the number of a pair, between those that make `beta_fast` and `beta_slow` turns."""

    rope_type: ClassVar[str] = "yarn"
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    """Whether the ends of the mix are rounded outwards to whole pairs."""
    attention_factor: float | None = None
    """The magnitude; None: what follows from `factor`, or from `mscale` and `mscale_all_dim` where both are given."""
    mscale: float | None = None
    mscale_all_dim: float | None = None

    def frequencies(self, dim: int, base: float) -> tuple[float, ...]:
        low, high = self._pair_of(self.beta_fast, dim, base), self._pair_of(self.beta_slow, dim, base)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        scaled = []
        for i, frequency in enumerate(plain_frequencies(dim, base)):
            slowed = min(max((i - low) / max(high - low, 1e-3), 0.0), 1.0)
            scaled.append(slowed * frequency / self.factor + (1 - slowed) * frequency)
        return tuple(scaled)

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._magnitude(self.mscale) / self._magnitude(self.mscale_all_dim)
        return self._magnitude(1.0)

    def _magnitude(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def _pair_of(self, turns: float, dim: int, base: float) -> float:
        """The (fractional) pair that makes so many turns in the positions of training."""
        return dim * math.log(self.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(base))


SCALINGS: dict[str, type[RotaryScaling]] = {
    kind.rope_type: kind for kind in (RotaryScaling, Llama3Scaling, YarnScaling)
}


def parse_scaling(data: Any) -> RotaryScaling:
    """From an object with `rope_type` and that way's keys. Raises ConfigError."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"rotary_scaling: must be an object with a rope_type, got {data!r}")
    name = data.get("rope_type")
    if not isinstance(name, str) or name not in SCALINGS:
        raise ConfigError(f"rotary_scaling.rope_type: must be one of {', '.join(SCALINGS)}, got {name!r}")
    return SCALINGS[name].parsed({key: value for key, value in data.items() if key != "rope_type"})


def plain_frequencies(dim: int, base: float) -> tuple[float, ...]:
    """base^(-2i/dim) of the dim/2 pairs."""
    return tuple(base ** (-2 * i / dim) for i in range(dim // 2))
