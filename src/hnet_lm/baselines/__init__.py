"""The models that an H-Net is compared with: families built from the same parts, and matched in FLOPs per byte."""

from hnet_lm.baselines.families import FAMILIES, FAMILY_KIND, HALF, MAIN, OUTER, Choice, Cutting, Family, build
from hnet_lm.baselines.matching import TOLERANCE, Match, match
from hnet_lm.baselines.rules import entropy_threshold, rule_bytes_per_chunk

__all__ = [
    "FAMILIES",
    "FAMILY_KIND",
    "HALF",
    "MAIN",
    "OUTER",
    "TOLERANCE",
    "Choice",
    "Cutting",
    "Family",
    "Match",
    "build",
    "entropy_threshold",
    "match",
    "rule_bytes_per_chunk",
]
