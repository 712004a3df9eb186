"""The interface between measures and models: log-probabilities of bytes, of whole documents or after a prompt.

A byte model computes them exactly (`ByteScorer`). Models with another vocabulary fit in as well: the log-probability of
a passage is then the sum over its tokens, and the number of bytes is still that of the text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


class Passage(NamedTuple):
    """Bytes to be scored, given a prompt. A document is a passage without one; BOS precedes either."""

    data: bytes
    prompt: bytes = b""


@dataclass(frozen=True, eq=False)
class PassageScore:
    """Log-probabilities in nats."""

    logprob: float
    """Log-probability of all bytes of the passage's data."""
    num_bytes: int
    eos_logprob: float
    """Log-probability that the text ends after them; not included in `logprob`."""
    is_greedy: bool
    """Whether every byte (or token) of the data is the likeliest one."""
    unit_starts: tuple[np.ndarray, ...] | None = None
    """Byte offsets in the data at which units start, if requested: chunks of every stage, outermost first, for a
    model that chunks, otherwise tokens. Offset 0 is always included."""
    byte_logprobs: np.ndarray | None = None
    """(num_bytes,) the log-probability of each byte of the data, if requested; a model of tokens has none."""


class Scorer(Protocol):
    """A language model as measures use it."""

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        """The score of each passage, in order. Passages are consumed lazily, so there may be any number of them."""
        ...
