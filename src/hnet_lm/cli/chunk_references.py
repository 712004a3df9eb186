"""The references that chunk starts are compared with: those that fit the text, and those asked for by options."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.sources import say
from hnet_lm.errors import UserError
from hnet_lm.extras import import_leaf
from hnet_lm.genome import BedInterval
from hnet_lm.inputs import read_text
from hnet_lm.inspect import references
from hnet_lm.inspect.place import edges
from hnet_lm.inspect.python_tokens import is_python, python_offsets
from hnet_lm.inspect.scripts import is_chinese

MAX_NAMES = 20
"""Most names of BED intervals with a row of their own."""


@dataclass(frozen=True)
class References:
    """Further references for the chunk starts; all options but --language imply --statistics."""

    language: Literal["auto", "chinese", "python", "other"] = "auto"
    """Compare with words for Chinese, with tokens for Python; auto looks at the text."""
    bpe: Path | None = None
    """A tokenizer.json: compare with the starts of its tokens."""
    words: Path | None = None
    """A file of the words of the text in order, separated by white space, as word segmenters write it."""
    codons: int | None = None
    """Compare with codons in this reading frame, 0, 1 or 2."""
    bed: Path | None = None
    """A BED file: compare with the edges of its intervals, all together and by name; pictures show them."""
    bed_sequence: str | None = None
    """The sequence that the text is a part of, such as chr20; FASTA records name it."""
    bed_origin: int | None = None
    """Position of the text's first base in that sequence, counted from 0; the names of FASTA records may have it."""
    codon_phase: bool = False
    """With --bed: in which phase of their codons chunks start in genes (intervals with a strand)."""
    tolerance: int = 0
    """Distance in bytes at which a chunk start still counts."""

    def check(self) -> None:
        """Raises UserError for options that contradict each other."""
        require_at_least(0, tolerance=self.tolerance, bed_origin=self.bed_origin)
        if self.codon_phase and self.bed is None:
            raise UserError("--codon-phase needs --bed, a BED file of genes with their strands")

    @property
    def is_asked_for(self) -> bool:
        return self.codon_phase or any(x is not None for x in (self.bpe, self.words, self.codons, self.bed))

    def offsets(
        self, data: bytes, is_whole: bool, annotations: tuple[BedInterval, ...] = (), *, is_dna: bool = False
    ) -> Mapping[str, np.ndarray]:
        """The boundaries of every reference by name. `is_whole` is false for the beginning of a text."""
        found: dict[str, np.ndarray] = {}
        is_of_chinese = self.language == "chinese" or (self.language == "auto" and not is_dna and is_chinese(data))
        if not is_of_chinese and len(spaces := references.space_offsets(data)):
            found |= {"spaces": spaces, "after spaces": references.after_space_offsets(data)}
        if len(starts := references.character_offsets(data)) < len(data):  # in ASCII every byte is a character
            found["characters"] = starts
        if is_of_chinese:
            found |= self._chinese_words(data)
        if self.language == "python" or (self.language == "auto" and not is_dna and is_python(data, is_whole)):
            found["Python tokens"] = python_offsets(data, is_whole)
        if self.bpe is not None:
            leaf = import_leaf("hnet_lm.data.byte_pairs", "eval", "--bpe")
            found[f"tokens of {self.bpe.name}"] = np.unique(leaf.BytePairs(self.bpe).encode(data).starts)
        if self.words is not None:
            found[f"words of {self.words.name}"] = references.word_offsets(data, read_text(self.words).split())
        if self.codons is not None:
            found[f"codons, frame {self.codons}"] = references.codon_offsets(len(data), self.codons)
        return found | self._intervals(annotations, len(data))

    def _chinese_words(self, data: bytes) -> dict[str, np.ndarray]:
        try:
            leaf = import_leaf("hnet_lm.inspect.chinese", "chinese", "comparing with Chinese words")
        except UserError as error:
            if self.language == "chinese":
                raise
            say(f"the text is Chinese; {error}")
            return {}
        return {"Chinese words": leaf.chinese_word_offsets(data)}

    def _intervals(self, annotations: tuple[BedInterval, ...], num_bytes: int) -> dict[str, np.ndarray]:
        if self.bed is None or not annotations:
            return {}
        found = {f"intervals of {self.bed.name}": edges(annotations, num_bytes)}
        by_name = Counter(interval.name for interval in annotations if interval.name)
        shown = [name for name, _ in by_name.most_common(MAX_NAMES)] if len(by_name) > 1 else []
        if len(by_name) > MAX_NAMES:
            say(f"{self.bed}: {len(by_name):,} names of intervals; only the {MAX_NAMES} most frequent have rows")
        for name in shown:
            of_name = [interval for interval in annotations if interval.name == name]
            found[f"{name} of {self.bed.name}"] = edges(of_name, num_bytes)
        return found
