"""The models that an H-Net is compared with: families built from the same parts, and matched in FLOPs a byte."""

from hnet_lm.baselines.families import FAMILIES, Choice, Cutting, Family, build
from hnet_lm.baselines.matching import TOLERANCE, Match, flops_per_byte, match
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
    "flops_per_byte",
    "match",
    "space_bytes_per_chunk",
]
