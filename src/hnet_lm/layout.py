"""The letters of a stack: `m` Mamba-2 and `t` attention, each with a count; in upper case a gated MLP follows."""

import re
from dataclasses import dataclass
from typing import Literal

from hnet_lm.errors import ConfigError


@dataclass(frozen=True)
class BlockKind:
    """One letter of a layout: its mixer, and whether a gated MLP follows (upper case)."""

    mixer: Literal["mamba2", "attention"]
    has_mlp: bool


BLOCK_KINDS = {
    "m": BlockKind("mamba2", has_mlp=False),
    "M": BlockKind("mamba2", has_mlp=True),
    "t": BlockKind("attention", has_mlp=False),
    "T": BlockKind("attention", has_mlp=True),
}


def parse_layout(layout: str) -> tuple[BlockKind, ...]:
    """The blocks of a stack: `parse_layout("T1m4")` is one T, then four m."""
    if not re.fullmatch(r"([mMtT][1-9]\d{0,3})+", layout):
        raise ConfigError(
            f"arch_layout: {layout!r} is not letters of m, M, t, T each with a count of 1 to 9999, as in 'T1m4'"
        )
    return tuple(
        BLOCK_KINDS[letter] for letter, count in re.findall(r"([mMtT])(\d+)", layout) for _ in range(int(count))
    )
