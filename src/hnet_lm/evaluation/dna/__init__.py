"""Measures on DNA: perplexity per base, scores of variants and of windows, on one strand or the mean of both.

Bases are bytes, so perplexity is that of bits per byte: `2 ** bits_per_byte(scorer, {"": sequences}).value`.
"""

from hnet_lm.evaluation.dna.kmers import KmerBaseline, kmer_baselines
from hnet_lm.evaluation.dna.scored_vcf import ScoredVcf
from hnet_lm.evaluation.dna.strands import BothStrands
from hnet_lm.evaluation.dna.variants import Variant, VariantFile, VariantScore, score_variants
from hnet_lm.evaluation.dna.windows import WindowScore, score_windows
from hnet_lm.genome import Reference, Region, reverse_complement

__all__ = [
    "BothStrands",
    "KmerBaseline",
    "Reference",
    "Region",
    "ScoredVcf",
    "Variant",
    "VariantFile",
    "VariantScore",
    "WindowScore",
    "kmer_baselines",
    "reverse_complement",
    "score_variants",
    "score_windows",
]
