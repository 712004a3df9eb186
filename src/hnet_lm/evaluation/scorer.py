"""What every measure asks of a model: the log-probability of bytes, of whole documents or after a prompt.

A byte model answers it exactly (`ByteScorer`). A model of another vocabulary fits in as well: the log-probability of a
passage is then the sum over its tokens, while the number of bytes stays that of the text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


class Passage(NamedTuple):
    """Bytes to be scored, given a prompt. A document is a passage without one; BOS stands in front of either."""

    data: bytes
    prompt: bytes = b""


@dataclass(frozen=True, eq=False)
class PassageScore:
    """Log-probabilities in nats."""

    logprob: float
    """Of all bytes of the passage's data."""
    num_bytes: int
    eos_logprob: float
    """That the text ends after them; no part of `logprob`."""
    is_greedy: bool
    """Whether at every byte (or token) the likeliest one is that of the data."""
    unit_starts: tuple[np.ndarray, ...] | None = None
    """Byte offsets in the data at which units start, if asked for: of a model that chunks the chunks of every stage,
    outermost first, of another the tokens. Offset 0 is always among them."""
    byte_logprobs: np.ndarray | None = None
    """(num_bytes,) of each byte of the data, if asked for; a model of tokens has none."""


class Scorer(Protocol):
    """A language model as the measures see it."""

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        """The score of each passage, in order. Passages are taken one by one, so there may be any number of them."""
        ...
