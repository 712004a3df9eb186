"""Scores of a model of BPE tokens: the log-probability of a text is the sum over the tokens of its canonical spelling.

A passage is read as BOS, the tokens of its prompt, the tokens of its data, EOS; prompt and data are tokenized
separately. The number of bytes is that of the text. Other spellings of the text have a probability too, which is left
out, as in the paper, so the bits per byte of a model of tokens are an upper bound. `spellings` counts all of them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hnet_lm.evaluation.byte_scorer import ByteScorer
from hnet_lm.evaluation.context import Context
from hnet_lm.evaluation.scorer import Passage, PassageScore
from hnet_lm.generation import check_tokenizer
from hnet_lm.model import HNetLM

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs


class TokenScorer(ByteScorer):
    """A `Scorer` over a model's tokens: sizes of contexts and calls count tokens, results count bytes."""

    def __init__(self, model: HNetLM, pairs: "BytePairs", context: Context | None = None, **options: Any) -> None:
        """`options` are those of `ByteScorer`. Raises ConfigError if the vocabularies differ."""
        super().__init__(model, context, **options)
        check_tokenizer(model.config, pairs)
        self.pairs = pairs

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        """The score of each passage, in order; its units are tokens."""
        in_work: deque[Passage] = deque()

        def noted() -> Iterator[Passage]:
            for passage in passages:
                in_work.append(passage)
                yield passage

        for found in super().score(noted()):
            data = in_work.popleft().data
            units = (np.unique(self.pairs.encode(data).starts),) if self.unit_starts else None
            yield replace(found, num_bytes=len(data), unit_starts=units, byte_logprobs=None)

    def encode(self, passage: Passage, number: int) -> tuple[np.ndarray, int]:
        """BOS, the prompt's tokens, the data's, EOS; and how many the prompt has."""
        prompt, data = self.pairs.encode(passage.prompt).ids, self.pairs.encode(passage.data).ids
        bos, eos = self.model.config.bos_id, self.model.config.eos_id
        return np.concatenate([[bos], prompt, data, [eos]]).astype(np.int64), len(prompt)
