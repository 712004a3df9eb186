"""Which chunker cuts a stage: the configuration's extension key `chunkers`, one entry a stage that chunks.

    "chunkers": [{"name": "space"}]              "chunkers": [{"name": "pool", "stride": 6}, {"name": "dynamic"}]

A plain H-Net has no such key: every stage is cut by its routing module, "dynamic". Every other chunker is a rule that
learns nothing. Their modules are in `model/dynamic_chunking/chunkers/`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hnet_lm.errors import ConfigError, unknown_key

SPACE_BYTES_PER_CHUNK = 6.0  # of English, as the paper's table 1 gives them


@dataclass(frozen=True)
class ChunkerConfig:
    """Base of the chunkers' options."""

    name: ClassVar[str]
    learns: ClassVar[bool] = False
    reads_bytes: ClassVar[bool] = False
    """Whether it looks at the bytes themselves, which only the outermost stage has."""

    @property
    def nominal_ratio(self) -> float | None:
        """Positions a chunk that follow from the options; None where they depend on the data alone."""
        return None


@dataclass(frozen=True)
class DynamicChunkerConfig(ChunkerConfig):
    """The routing module: boundaries are learned."""

    name = "dynamic"
    learns = True


@dataclass(frozen=True)
class SpaceChunkerConfig(ChunkerConfig):
    """A boundary at BOS and at every spacelike byte that does not follow another one (SpaceByte)."""

    name = "space"
    reads_bytes = True

    @property
    def nominal_ratio(self) -> float:
        return SPACE_BYTES_PER_CHUNK


@dataclass(frozen=True)
class PoolChunkerConfig(ChunkerConfig):
    """A boundary every `stride` positions."""

    stride: int = 6
    name = "pool"

    def __post_init__(self) -> None:
        if not isinstance(self.stride, int) or isinstance(self.stride, bool) or self.stride < 2:
            raise ConfigError(f"chunkers: the stride of 'pool' must be a whole number, 2 or more, got {self.stride!r}")

    @property
    def nominal_ratio(self) -> float:
        return float(self.stride)


@dataclass(frozen=True)
class RandomChunkerConfig(ChunkerConfig):
    """A boundary at each position with probability `rate`, drawn from `seed` and the position's index."""

    rate: float = 0.2
    seed: int = 0
    name = "random"

    def __post_init__(self) -> None:
        _require_number("rate", self.rate)
        if not 0 < self.rate < 1:
            raise ConfigError(f"chunkers: the rate of 'random' must lie between 0 and 1, got {self.rate}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 2**31:
            raise ConfigError(f"chunkers: the seed of 'random' must be a whole number from 0 on, got {self.seed!r}")

    @property
    def nominal_ratio(self) -> float:
        return 1 / self.rate


@dataclass(frozen=True)
class EntropyChunkerConfig(ChunkerConfig):
    """A boundary where a byte model (the configuration's `byte_model`) was unsure of the byte: entropy above
    `threshold`, in bits."""

    threshold: float = 2.0
    name = "entropy"
    reads_bytes = True

    def __post_init__(self) -> None:
        _require_number("threshold", self.threshold)
        if not 0 <= self.threshold <= 16:
            raise ConfigError(f"chunkers: the threshold of 'entropy' must be 0 to 16 bits, got {self.threshold}")


@dataclass(frozen=True)
class OracleChunkerConfig(ChunkerConfig):
    """The boundaries that the caller gives with the sequences."""

    name = "oracle"
    reads_bytes = True


CHUNKERS: dict[str, type[ChunkerConfig]] = {
    chunker.name: chunker
    for chunker in (
        DynamicChunkerConfig,
        SpaceChunkerConfig,
        PoolChunkerConfig,
        RandomChunkerConfig,
        EntropyChunkerConfig,
        OracleChunkerConfig,
    )
}


def parse_chunkers(entries: Any, num_stages: int) -> tuple[ChunkerConfig, ...]:
    """The chunkers of a configuration that chunks so many times. Raises ConfigError."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ConfigError(f"chunkers: must be a list with one entry for each stage that chunks, got {entries!r}")
    if len(entries) != num_stages:
        raise ConfigError(f"chunkers: the model chunks {num_stages} times, but {len(entries)} entries are given")
    return tuple(_parse(entry, stage) for stage, entry in enumerate(entries))


def written(chunker: ChunkerConfig) -> dict[str, Any]:
    """The entry of a configuration that gives this chunker."""
    return {"name": chunker.name, **dataclasses.asdict(chunker)}


def _parse(entry: Any, stage: int) -> ChunkerConfig:
    where = f"chunkers, entry {stage}"
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ConfigError(f"{where}: must be an object with a name ({', '.join(CHUNKERS)}), got {entry!r}")
    name = entry["name"]
    if name not in CHUNKERS:
        raise ConfigError(f"{where}: no chunker {name!r}; there are {', '.join(CHUNKERS)}")
    chunker = CHUNKERS[name]
    if chunker.reads_bytes and stage > 0:
        raise ConfigError(f"{where}: {name!r} looks at the bytes, which only the outermost stage has")
    options = [field.name for field in dataclasses.fields(chunker)]
    for key in entry:
        if key not in ("name", *options):
            raise unknown_key(str(key), options, f"{where} ({name})")
    return chunker(**{key: value for key, value in entry.items() if key != "name"})


def _require_number(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigError(f"chunkers: {name} must be a number, got {value!r}")
