"""How the parts around a chunker are put together: the configuration's extension key `chunking`, one entry per stage.

    "chunking": [{"smoothing": "bytes"}]                 "chunking": [{"confidence": "weight", "residual": "none"}]

A plain H-Net has no such key: every stage is that of the paper, which all defaults are. The other values are what the
paper and others compare it with:

| key          | value              | stage                                                                          |
|--------------|--------------------|--------------------------------------------------------------------------------|
| `smoothing`  | `chunks`           | z_t = P_t inner_t + (1 - P_t) z_{t-1} over chunks, behind the main network     |
|              | `bytes`            | x_i = c_i x_hat_i + (1 - c_i) x_{i-1} over positions, before the main network  |
|              | `none`             | z = inner                                                                      |
| `confidence` | `straight_through` | y_t = ste(c_t) z of its chunk: the value 1, the gradient of c                  |
|              | `weight`           | y_t = c_t z of its chunk                                                       |
|              | `none`             | y_t = z of its chunk                                                           |
| `residual`   | `projection`       | + residual_proj(x_hat), a linear map that starts at zero                       |
|              | `identity`         | + x_hat                                                                        |
|              | `none`             | nothing: what the decoder sees has gone through the chunks                     |
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from hnet_lm.checks import require_choice
from hnet_lm.errors import ConfigError
from hnet_lm.tables import from_table, to_table

Smoothing = Literal["chunks", "bytes", "none"]
Confidence = Literal["straight_through", "weight", "none"]
Residual = Literal["projection", "identity", "none"]


@dataclass(frozen=True)
class ChunkingConfig:
    """One stage that chunks."""

    smoothing: Smoothing = "chunks"
    confidence: Confidence = "straight_through"
    residual: Residual = "projection"

    def __post_init__(self) -> None:
        kinds = {"smoothing": Smoothing, "confidence": Confidence, "residual": Residual}
        for key, kind in kinds.items():
            require_choice(f"chunking.{key}", getattr(self, key), get_args(kind))


def parse_chunking(entries: Any, num_stages: int) -> tuple[ChunkingConfig, ...]:
    """The stages of a configuration that chunks so many times; none where all are the paper's. Raises ConfigError."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ConfigError(f"chunking: must be a list with one entry for each stage that chunks, got {entries!r}")
    if len(entries) != num_stages:
        raise ConfigError(f"chunking: the model chunks {num_stages} times, but {len(entries)} entries are given")
    for stage, entry in enumerate(entries):
        if not isinstance(entry, dict):
            keys = ", ".join(field.name for field in fields(ChunkingConfig))
            raise ConfigError(f"chunking, entry {stage}: must be an object with the keys {keys}, got {entry!r}")
    found = tuple(from_table(ChunkingConfig, entry, f"chunking, entry {stage}") for stage, entry in enumerate(entries))
    return () if set(found) <= {ChunkingConfig()} else found


def written(stage: ChunkingConfig) -> dict[str, Any]:
    """The entry that describes this stage, without what is the paper's."""
    paper = to_table(ChunkingConfig())
    return {key: value for key, value in to_table(stage).items() if value != paper[key]}
