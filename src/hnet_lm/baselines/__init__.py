"""The models that an H-Net is compared with: families built from the same parts, and matched in FLOPs a byte."""

from hnet_lm.baselines.families import FAMILIES, Choice, Cutting, Family, build
from hnet_lm.baselines.matching import TOLERANCE, Match, match
from hnet_lm.baselines.rules import entropy_threshold, space_bytes_per_chunk

__all__ = [
    "FAMILIES",
    "TOLERANCE",
    "Choice",
    "Cutting",
    "Family",
    "Match",
    "build",
    "entropy_threshold",
    "match",
    "space_bytes_per_chunk",
]
