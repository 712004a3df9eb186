"""What cuts a stage: the configuration's extension key `chunkers`, one entry per stage that chunks.

    "chunkers": [{"name": "space"}]              "chunkers": [{"name": "pool", "stride": 6}, {"name": "dynamic"}]

A plain H-Net has no such key: every stage is cut by its routing module, "dynamic". The built-in chunkers are in
`model/dynamic_chunking/`; one of your own is a subclass of `ChunkerConfig` in a module of yours (docs/extending.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from hnet_lm.checks import require_number
from hnet_lm.errors import ConfigError
from hnet_lm.registry import Kind


@dataclass(frozen=True)
class ChunkerSite:
    """Where a chunker stands in a model, for the module that it builds."""

    stage: int
    """0 is the outermost."""
    d_model: int
    """Width of the vectors that the module is given."""
    bos_id: int
    eos_id: int
    byte_model: Any = None
    """The module of the configuration's `byte_model`, for a chunker that asks for one."""


@dataclass(frozen=True)
class ChunkerConfig(ABC):
    """A chunker as a configuration has it: its options are the fields, and `build` makes the module that cuts."""

    learns: ClassVar[bool] = False
    """Whether boundaries are learned: then the ratio loss steers the stage, and the run has a target ratio for it."""
    reads_bytes: ClassVar[bool] = False
    """Whether it looks at the bytes themselves, which only the outermost stage has."""
    needs_terms: ClassVar[tuple[str, ...]] = ()
    """Loss terms without which it would not learn: a run must have them."""
    asks_byte_model: ClassVar[bool] = False
    """Whether it needs the configuration's `byte_model`; its module keeps that as its attribute `byte_model`."""

    @abstractmethod
    def build(self, site: ChunkerSite) -> Any:
        """The module, a `hnet_lm.model.Chunker`."""

    @property
    def name(self) -> str:
        """The name in a configuration."""
        return CHUNKERS.name_of(type(self))

    @property
    def nominal_ratio(self) -> float | None:
        """Positions per chunk that follow from the options; None where they depend on the data alone."""
        return None

    @classmethod
    def for_ratio(cls, positions_per_chunk: float) -> Self | None:
        """The options that give so many positions per chunk; None where the data alone decides."""
        return None

    def flops_per_position(self, site: ChunkerSite) -> float:
        """Of a forward pass of the module, without that of a byte model."""
        return 0


@dataclass(frozen=True)
class LearnedChunkerConfig(ChunkerConfig):
    """A chunker whose module gives probabilities and cuts where they are above a threshold."""

    learns: ClassVar[bool] = True
    threshold: float = field(default=0.5, kw_only=True)
    """A boundary is where p is above this. 0.5 in training; another one after it gives chunks of another length
    (`hnet-lm calibrate`)."""

    def __post_init__(self) -> None:
        require_number(f"chunkers.{self.name}.threshold", self.threshold, above=0, below=1)


CHUNKERS: Kind[ChunkerConfig] = Kind(
    "chunker",
    "hnet_lm.chunker_config:ChunkerConfig",
    "hnet_lm.chunkers",
    {
        "dynamic": "hnet_lm.model.dynamic_chunking.routing:DynamicChunkerConfig",
        "cosine": "hnet_lm.model.dynamic_chunking.chunkers.cosine:CosineChunkerConfig",
        "linear": "hnet_lm.model.dynamic_chunking.chunkers.linear:LinearChunkerConfig",
        "policy": "hnet_lm.model.dynamic_chunking.chunkers.policy:PolicyChunkerConfig",
        "space": "hnet_lm.model.dynamic_chunking.chunkers.space:SpaceChunkerConfig",
        "pool": "hnet_lm.model.dynamic_chunking.chunkers.pool:PoolChunkerConfig",
        "random": "hnet_lm.model.dynamic_chunking.chunkers.random:RandomChunkerConfig",
        "entropy": "hnet_lm.model.dynamic_chunking.chunkers.entropy:EntropyChunkerConfig",
        "oracle": "hnet_lm.model.dynamic_chunking.chunkers.oracle:OracleChunkerConfig",
    },
    ConfigError,
)


def parse_chunkers(entries: Any, num_stages: int) -> tuple[ChunkerConfig, ...]:
    """The chunkers of a configuration that chunks so many times. Raises ConfigError."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ConfigError(f"chunkers: must be a list with one entry for each stage that chunks, got {entries!r}")
    if len(entries) != num_stages:
        raise ConfigError(f"chunkers: the model chunks {num_stages} times, but {len(entries)} entries are given")
    return tuple(CHUNKERS.parse(entry, f"chunkers, entry {stage}") for stage, entry in enumerate(entries))
