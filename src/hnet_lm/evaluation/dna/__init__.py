"""Measures on DNA: perplexity per base, scores of variants and of windows, on one strand or the mean of both.

Bases are bytes, so perplexity is that of bits per byte: `2 ** bits_per_byte(scorer, {"": sequences}).value`.
"""

from hnet_lm.data.formats.fasta import reverse_complement
from hnet_lm.evaluation.dna.reference import Reference, Region
from hnet_lm.evaluation.dna.strands import BothStrands
from hnet_lm.evaluation.dna.variants import Variant, VariantFile, VariantScore, score_variants
from hnet_lm.evaluation.dna.windows import WindowScore, score_windows

__all__ = [
    "BothStrands",
    "Reference",
    "Region",
    "Variant",
    "VariantFile",
    "VariantScore",
    "WindowScore",
    "reverse_complement",
    "score_variants",
    "score_windows",
]
