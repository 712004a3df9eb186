"""Measures of a trained model: bits per byte, chunks, robustness, benchmarks, DNA, data efficiency.

All log-probabilities come from a `Scorer`, so that models of bytes and of tokens are measured by the same code.
"""

from hnet_lm.evaluation.bits_per_byte import BitsPerByte, DocumentResult, Interval, bits_per_byte
from hnet_lm.evaluation.boundaries import BoundaryStatistics, StageBoundaries
from hnet_lm.evaluation.byte_scorer import ByteScorer
from hnet_lm.evaluation.compressors import compressor_bits_per_byte
from hnet_lm.evaluation.context import CarriedState, Context, SlidingWindow
from hnet_lm.evaluation.evaluation import Evaluation
from hnet_lm.evaluation.multiple_choice import Accuracy, Question, accuracy, read_questions
from hnet_lm.evaluation.robustness import (
    TARGETS,
    PerturbedText,
    Robustness,
    perturbed_bits_per_byte,
    robustness,
    robustness_score,
)
from hnet_lm.evaluation.scorer import Passage, PassageScore, Scorer
from hnet_lm.evaluation.spelling_cost import SpellingCost, spelling_cost
from hnet_lm.evaluation.spellings import SpellingScorer
from hnet_lm.evaluation.token_scorer import TokenScorer

__all__ = [
    "TARGETS",
    "Accuracy",
    "BitsPerByte",
    "BoundaryStatistics",
    "ByteScorer",
    "CarriedState",
    "Context",
    "DocumentResult",
    "Evaluation",
    "Interval",
    "Passage",
    "PassageScore",
    "PerturbedText",
    "Question",
    "Robustness",
    "Scorer",
    "SlidingWindow",
    "SpellingCost",
    "SpellingScorer",
    "StageBoundaries",
    "TokenScorer",
    "accuracy",
    "bits_per_byte",
    "compressor_bits_per_byte",
    "perturbed_bits_per_byte",
    "read_questions",
    "robustness",
    "robustness_score",
    "spelling_cost",
]
