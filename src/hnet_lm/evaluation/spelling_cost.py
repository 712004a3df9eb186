"""The cost to a model of tokens of counting only one spelling of a text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hnet_lm.evaluation.bits_per_byte import bits_per_byte
from hnet_lm.evaluation.spellings import SpellingScorer
from hnet_lm.evaluation.token_scorer import TokenScorer


@dataclass(frozen=True)
class SpellingCost:
    """Bits per byte of the same bytes, by their canonical spelling and by all of them."""

    canonical: float
    all_spellings: float
    """An upper bound if there are more spellings than `max_spellings`."""
    max_spellings: int | None
    num_bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def spelling_cost(scorer: TokenScorer, texts: Sequence[bytes], max_spellings: int | None) -> SpellingCost:
    """Measured on whole texts, each from its first byte on, with everything before a byte seen."""
    every = SpellingScorer(scorer.model, scorer.pairs, max_spellings)
    canonical = TokenScorer(scorer.model, scorer.pairs, call_bytes=scorer.call_bytes)
    first, second = (bits_per_byte(each, {"": texts}) for each in (canonical, every))
    return SpellingCost(first.value, second.value, max_spellings, first.num_bytes)


def first_bytes(text: bytes, num_bytes: int) -> bytes:
    """The first bytes of a text, at most so many, without an incomplete character at the end."""
    if len(text) <= num_bytes:
        return text
    end = num_bytes
    while end and text[end] & 0xC0 == 0x80:
        end -= 1
    return text[:end]
