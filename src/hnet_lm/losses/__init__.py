"""The training loss: next-byte cross entropy, and the terms that are added to it, one per file."""

from hnet_lm.losses.next_byte import next_byte_loss
from hnet_lm.losses.ratio import RatioLoss, ratio_loss, ratio_loss_of
from hnet_lm.losses.term import LOSS_TERMS, LossInputs, LossTerm, parse_terms, require_learned, term_values
from hnet_lm.sequences import IGNORE_INDEX

__all__ = [
    "IGNORE_INDEX",
    "LOSS_TERMS",
    "LossInputs",
    "LossTerm",
    "RatioLoss",
    "next_byte_loss",
    "parse_terms",
    "ratio_loss",
    "ratio_loss_of",
    "require_learned",
    "term_values",
]
