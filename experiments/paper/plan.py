"""What is compared: the models, the corpora and the sizes, as cells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

BYTES_PER_STEP = 4096
LENGTH = 1024
"""Bytes of a sequence."""
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
"""Peak rates that every model is tried with."""
VOCABULARIES = (1024, 4096, 16384)
"""Tokens of the BPE tokenizers that are tried."""
TUNING_STEPS = 300
NUM_STEPS = 1000


@dataclass(frozen=True)
class Variant:
    """A model of the comparison: its family, and for an H-Net what teaches it where to cut and what it leaves out."""

    family: str
    recipe: Literal["paper", "small"] = "paper"
    tuned_as: str = ""
    """The variant whose rate it takes, where it has not been tuned for itself."""
    chunking: Mapping[str, str] = field(default_factory=dict[str, str])
    """What is not the paper's in its stages: the architecture's extension key of this name."""
    options: tuple[str, ...] = ()
    """Of `hnet-lm train`, besides those that every model has."""


MAIN: Mapping[str, Variant] = {
    "1stage": Variant("hnet-1stage", "small"),
    "bpe": Variant("bpe"),
    "mambabyte": Variant("mambabyte"),
    "space": Variant("hnet-space"),
    "2stage": Variant("hnet-2stage", "small"),
}
"""Those that get three seeds where the corpus has them."""
OTHERS: Mapping[str, Variant] = {
    "1stage-paper": Variant("hnet-1stage", "paper", tuned_as="1stage"),
    "2stage-paper": Variant("hnet-2stage", "paper", tuned_as="2stage"),
    "pool": Variant("hnet-pool"),
    "llamabyte": Variant("llamabyte"),
    "ngrams": Variant("llamabyte-ngrams"),
    "ngrams-superposed": Variant(
        "llamabyte-ngrams",
        tuned_as="ngrams",
        options=("--superposition.bag-size", "4", "--superposition.fraction", "0.3"),
    ),
}
"""The superposed one reads 1.9 times the bytes at the same FLOPs."""
ABLATIONS: Mapping[str, Variant] = {
    "1stage-no-smoothing": Variant("hnet-1stage", "small", "1stage", {"smoothing": "none"}),
    "1stage-no-straight-through": Variant("hnet-1stage", "small", "1stage", {"confidence": "weight"}),
    "1stage-no-residual": Variant("hnet-1stage", "small", "1stage", {"residual": "none"}),
}
"""Measured on the corpus that their rate comes from, with two seeds."""
VARIANTS: Mapping[str, Variant] = {**MAIN, **OTHERS, **ABLATIONS}


@dataclass(frozen=True)
class Corpus:
    """Data, and the bytes per chunk that H-Nets aim at."""

    files: str
    """With `*` for the split."""
    out_of_domain: str
    """The split of other text, measured once at the end."""
    target_ratios: Mapping[int, tuple[float, ...]]
    """By number of stages."""
    tuned_on: str = "english"
    """The corpus whose rates it takes."""
    num_seeds: int = 1
    is_text: bool = True
    """It has spaces, and can be misspelt."""

    def split(self, folder: Path, name: str) -> str:
        return str(folder / self.files.replace("*", name))


TEXT_TARGETS: Mapping[int, tuple[float, ...]] = {1: (6.0,), 2: (3.0, 3.0)}
CORPORA: Mapping[str, Corpus] = {
    "english": Corpus("english/*.jsonl.xz", "test_ood", TEXT_TARGETS, num_seeds=3),
    "dna": Corpus("dna/*.fa.zst", "test_ecoli", {1: (3.0,), 2: (2.0, 2.0)}, tuned_on="dna", num_seeds=3, is_text=False),
    "chinese": Corpus("chinese/*.jsonl.xz", "test_ood", TEXT_TARGETS),
    "code": Corpus("code/*.jsonl.zst", "test_numpy", TEXT_TARGETS),
}


@dataclass(frozen=True)
class Cell:
    """One run."""

    corpus: str
    variant: str
    lr: float
    seed: int = 0
    num_steps: int = NUM_STEPS
    num_tokens: int = 0
    """Of the tokenizer, for models of tokens."""

    @property
    def name(self) -> str:
        tokens = f"-{self.num_tokens}" if self.num_tokens else ""
        steps = f"-{self.num_steps}-steps" if self.num_steps != NUM_STEPS else ""
        return f"{self.variant}{tokens}-{self.lr:g}-seed{self.seed}{steps}"

    @property
    def num_bytes(self) -> int:
        return self.num_steps * BYTES_PER_STEP


def fits(variant: str, corpus: str) -> bool:
    """Nothing can be cut at spaces where there are none."""
    return CORPORA[corpus].is_text or variant != "space"
