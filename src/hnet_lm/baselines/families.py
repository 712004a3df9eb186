"""The families of models that an H-Net is compared with, each built from the same parts by its configuration alone.

| family             | layout             | what it is                                                    |
|--------------------|--------------------|---------------------------------------------------------------|
| llamabyte          | T n                | byte Transformer, global attention                            |
| llamabyte-windowed | T n                | byte Transformer, sliding window                              |
| llamabyte-ngrams   | T n                | byte Transformer, global attention, hashed n-gram embeddings  |
| mambabyte          | m n                | Mamba-2 over bytes                                            |
| spacebyte          | T n/2, T n, T n/2  | cut at spaces, Transformer outer networks, SpaceByte's skip   |
| spacebyte++        | m4, T n, m4        | the same with Mamba-2 outer networks                          |
| hnet-space         | m4, T n, m4        | an H-Net that is cut at spaces                                |
| hnet-pool          | m4, T n, m4        | an H-Net that is cut every k bytes                            |
| hnet-random        | m4, T n, m4        | an H-Net that is cut at random                                |
| hnet-entropy       | m4, T n, m4        | an H-Net that is cut where a small byte model is unsure (BLT) |
| hnet-1stage        | m4, T n, m4        | the H-Net                                                     |
| hnet-2stage        | m4, T1m4, T n, ... | the H-Net with two stages                                     |
| bpe                | T n                | Transformer over the tokens of a BPE tokenizer                |

The layouts are those of the paper's table 1; m4 stands for the outer network of the model that is compared. Widths and
the number of layers n are what `matching` finds.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hnet_lm.chunker_config import CHUNKERS, ChunkerConfig
from hnet_lm.config import MAMBA2_HEAD_DIM, HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.layout import parse_layout
from hnet_lm.registry import Kind

MAIN, OUTER, HALF = "T{n}", "{outer}", "T{half}"


@dataclass(frozen=True)
class Family:
    """How a family's configuration follows from a width and a number of layers of its innermost network."""

    title: str
    layout: tuple[str, ...]
    """The stacks in the order of the data: one, or encoder(s), main network, decoder(s). `MAIN`, `OUTER` and `HALF`
    are filled in."""
    cut: str = "dynamic"
    """The chunker of the outermost stage, by its name in a configuration."""
    is_windowed: bool = False
    """Attention of an isotropic model in the outer window of the model that is compared; else global."""
    is_spacebyte: bool = False
    has_ngrams: bool = False
    """Hashed n-gram embeddings of `NgramConfig`'s sizes and rows."""
    reads_tokens: bool = False

    @property
    def num_stages(self) -> int:
        """How many times it chunks."""
        return len(self.layout) // 2


FAMILIES: dict[str, Family] = {
    "llamabyte": Family("LlamaByte (global)", (MAIN,)),
    "llamabyte-windowed": Family("LlamaByte (windowed)", (MAIN,), is_windowed=True),
    "llamabyte-ngrams": Family("LlamaByte (hashed n-grams)", (MAIN,), has_ngrams=True),
    "mambabyte": Family("MambaByte", ("m{n}",)),
    "spacebyte": Family("SpaceByte", (HALF, MAIN, HALF), "space", is_windowed=True, is_spacebyte=True),
    "spacebyte++": Family("SpaceByte++", (OUTER, MAIN, OUTER), "space", is_spacebyte=True),
    "hnet-space": Family("H-Net (space)", (OUTER, MAIN, OUTER), "space"),
    "hnet-pool": Family("H-Net (pool)", (OUTER, MAIN, OUTER), "pool"),
    "hnet-random": Family("H-Net (random)", (OUTER, MAIN, OUTER), "random"),
    "hnet-entropy": Family("H-Net (entropy)", (OUTER, MAIN, OUTER), "entropy"),
    "hnet-1stage": Family("H-Net 1-stage", (OUTER, MAIN, OUTER)),
    "hnet-2stage": Family("H-Net 2-stage", (OUTER, "T1{outer}", MAIN, "{outer}T1", OUTER)),
    "bpe": Family("Transformer (BPE)", (MAIN,), reads_tokens=True),
}

FAMILY_KIND: Kind[Family] = Kind(
    "family", "hnet_lm.baselines.families:Family", "hnet_lm.families", FAMILIES, ConfigError, are_objects=True
)


@dataclass(frozen=True)
class Choice:
    """What is left open of a family's configuration."""

    width: int
    """Of the innermost network."""
    num_layers: int
    """Of the innermost network."""
    outer: str
    """The outer network, for the families that have one; `outer_layouts` are those to choose from."""
    mlp_scale: float = 1.0
    """The width of the innermost MLPs over that of the rule (`mlp_width`)."""


@dataclass(frozen=True)
class Cutting:
    """How the outermost stage is cut, with the rule's options, and what they need."""

    chunker: ChunkerConfig
    byte_model: HNetConfig | None = None


def build(
    family: Family,
    reference: HNetConfig,
    choice: Choice,
    *,
    cutting: Cutting | None = None,
    vocab_size: int | None = None,
) -> HNetConfig:
    """A configuration of the family in the manner of `reference`: its outer network, heads, windows and Mamba-2.

    `cutting` goes with the families that a rule cuts, `vocab_size` with the one of tokens.
    """
    counts = {"n": choice.num_layers, "half": max(1, choice.num_layers // 2), "outer": choice.outer}
    stacks = [stack.format(**counts) for stack in family.layout]
    widths = _widths(family, reference, choice)
    return HNetConfig.from_dict(
        {
            "arch_layout": _nested(stacks),
            "d_model": widths,
            "d_intermediate": [
                mlp_width(width, choice.mlp_scale if s == family.num_stages else 1.0)
                if _has_mlp(stacks[s], stacks[-1 - s])
                else 0
                for s, width in enumerate(widths)
            ],
            "vocab_size": vocab_size or reference.vocab_size,
            "ssm_cfg": reference.to_dict()["ssm_cfg"],
            "attn_cfg": _attention(family, reference, widths),
            "tie_embeddings": reference.tie_embeddings,
            **_extensions(family, cutting),
        }
    )


def outer_layouts(reference: HNetConfig) -> list[str]:
    """Outer networks, the preferred one first: that of the reference (or the paper's), and one half as deep."""
    own = reference.stages[0].encoder or "m4"
    halved = re.sub(r"\d+", lambda count: str(max(1, int(count[0]) // 2)), own)
    return list(dict.fromkeys([own, halved]))


def mlp_width(width: int, scale: float = 1.0) -> int:
    """Of a gated MLP: 8/3 of the width rounded up to a multiple of 128 as in the paper (of 32 below a width of 512)."""
    multiple = 128 if width >= 512 else 32
    return math.ceil(scale * width * 8 / 3 / multiple - 1e-9) * multiple


def width_step(family: Family, reference: HNetConfig) -> int:
    """Widths of the innermost network that are multiples of this fit heads, their rotated halves, and Mamba-2."""
    per_head = 4 * reference.stages[-1].attention.num_heads
    is_mamba = family.layout[family.num_stages].startswith("m")
    per_mamba_head = MAMBA2_HEAD_DIM // math.gcd(MAMBA2_HEAD_DIM, reference.mamba2.expand)
    return math.lcm(per_head, per_mamba_head) if is_mamba else per_head


def preferred_width(family: Family, reference: HNetConfig) -> int:
    """Where the search for a width begins: byte-level isotropic models are as wide as the outer network (paper)."""
    is_narrow = family.num_stages == 0 and not family.reads_tokens
    return reference.stages[0 if is_narrow else -1].d_model


def _widths(family: Family, reference: HNetConfig, choice: Choice) -> list[int]:
    """Of every stage. SpaceByte's outer networks have half the inner width (paper), the others the reference's."""
    step = width_step(family, reference)
    outer = min(reference.stages[0].d_model, choice.width)
    if HALF in family.layout:
        outer = max(step, choice.width // 2 // step * step)
    return [outer] * family.num_stages + [choice.width]


def _nested(stacks: list[str]) -> list[Any]:
    middle = len(stacks) // 2
    layout: list[Any] = [stacks[middle]]
    for s in reversed(range(middle)):
        layout = [stacks[s], layout, stacks[-1 - s]]
    return layout


def _has_mlp(*stacks: str) -> bool:
    return any(block.has_mlp for stack in stacks for block in parse_layout(stack))


def _attention(family: Family, reference: HNetConfig, widths: list[int]) -> Mapping[str, list[int]]:
    """Half of every head rotates. Outer stages see the reference's outer window, the innermost what its own sees."""
    outer, inner = reference.stages[0].attention, reference.stages[-1].attention
    outer_heads = inner.num_heads if HALF in family.layout else outer.num_heads
    heads = [outer_heads] * family.num_stages + [inner.num_heads]
    innermost_window = inner.window_size if family.num_stages else -1
    if family.num_stages == 0 and family.is_windowed:
        innermost_window = outer.window_size
    return {
        "num_heads": heads,
        "rotary_emb_dim": [width // h // 4 * 2 for width, h in zip(widths, heads, strict=True)],
        "window_size": [outer.window_size] * family.num_stages + [innermost_window],
    }


def _extensions(family: Family, cutting: Cutting | None) -> dict[str, Any]:
    extensions: dict[str, Any] = {}
    if cutting is not None:
        extensions["chunkers"] = [CHUNKERS.written(cutting.chunker)]
        if cutting.byte_model is not None:
            extensions["byte_model"] = cutting.byte_model.to_dict()
    if family.has_ngrams:
        extensions["ngrams"] = {}
    flags = {"spacebyte": family.is_spacebyte, "reads_tokens": family.reads_tokens}
    return extensions | {name: True for name, is_set in flags.items() if is_set}
