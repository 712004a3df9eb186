"""Exact probabilities of bytes under a model of tokens: sums over all spellings of a text.

A text has one canonical spelling, the tokenizer's, and many others, each with a probability. The probability that a
text begins with x_1 .. x_n is

    P(x_1 .. x_n) = sum over covers t_1 .. t_k of prod_i p(t_i | t_1 .. t_{i-1})

where a cover is a sequence of tokens whose bytes begin with x_1 .. x_n, and which without its last token has fewer than
n bytes. So p(x_{n+1} | x_1 .. x_n) = P(x_1 .. x_{n+1}) / P(x_1 .. x_n) for each of the 256 bytes, and the remainder is
the probability that the text ends there. This is the sum over all spellings (Vieira et al., arXiv 2412.03719), not over
canonical ones alone (as in Phan et al., arXiv 2410.09303).

Covers that differ only in their last token are summed over the tokenizer's prefix tree; what remains are the spellings
of the text so far, each with a state of the model. Their number grows with the text, so it may be limited: then the
least likely ones are left out, and the result is the sum over the others, a lower bound. Ids without bytes are left
out: the model's probabilities are those of the other ids and of the end.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch

from hnet_lm.checks import require_whole
from hnet_lm.evaluation.scorer import Passage, PassageScore
from hnet_lm.evaluation.token_tree import Node, TokenTree
from hnet_lm.generation import vocabulary_of
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences
from hnet_lm.state import State

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs

END = 256
"""The entry of a distribution for the end of the text, after those of the bytes."""


@dataclass
class _Spelling:
    """Tokens of a part of the text, up to some byte, and the node of the bytes after them."""

    logprob: float
    """Of its tokens."""
    probs: np.ndarray
    """Of the token behind it, in the order of the tree."""
    end_prob: float
    states: State
    """Of several spellings; its own is that of `slot`."""
    slot: int
    node: Node

    @property
    def reached(self) -> float:
        """The probability of the tokens that cover the bytes after it, and extend beyond them (or follow)."""
        return float(self.probs[self.node.longer : self.node.end].sum()) + (self.end_prob if not self.node.depth else 0)


class SpellingScorer:
    """A `Scorer` of a model of tokens by bytes: all spellings of the data count, those of a prompt do not.

    A passage is read as BOS, the tokens of its prompt, and then byte by byte. Each byte is a call of the model, so this
    takes far longer than scoring the canonical spelling.
    """

    def __init__(self, model: HNetLM, pairs: "BytePairs", max_spellings: int | None = None) -> None:
        """`max_spellings` limits those that are followed at a time; None follows all, however many.

        Raises ConfigError where the tokenizer is not the model's.
        """
        if max_spellings is not None:
            require_whole("max_spellings", max_spellings, 1)
        self.model = model
        self.vocabulary = vocabulary_of(model.config, pairs)
        self.max_spellings = max_spellings
        self.tree = TokenTree([self.vocabulary.bytes_of(id) for id in range(self.vocabulary.size)])

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        """The score of each passage, in order."""
        for passage in passages:
            reader = Reader(self, passage.prompt)
            before = reader.logprob_before
            is_greedy, logprobs = True, np.zeros(len(passage.data))
            for i, byte in enumerate(passage.data):
                is_greedy = is_greedy and int(reader.distribution().argmax()) == byte
                reader.read(byte)
                logprobs[i], before = reader.logprob - before, reader.logprob
            end = reader.distribution()[END]
            eos_logprob = math.log(end) if end > 0 else -math.inf
            yield PassageScore(reader.logprob, len(passage.data), eos_logprob, is_greedy, byte_logprobs=logprobs)

    def distributions(self, data: bytes, prompt: bytes = b"") -> np.ndarray:
        """(len(data) + 1, 257): after each byte of the data, and before the first, the probability of every byte and,
        last, of the end."""
        reader = Reader(self, prompt)
        rows = [reader.distribution()]
        for byte in data:
            reader.read(byte)
            rows.append(reader.distribution())
        return np.stack(rows)


class Reader:
    """A text that is read byte by byte: every spelling of it that is followed, and what comes next."""

    def __init__(self, scorer: SpellingScorer, prompt: bytes = b"") -> None:
        self._model, self._tree, self._most = scorer.model, scorer.tree, scorer.max_spellings
        vocabulary = scorer.vocabulary
        self._eos_id = vocabulary.eos_id
        ids = [vocabulary.bos_id, *vocabulary.encode(prompt)]
        self._spellings = self._after([ids], self._model.new_state(1), [0.0])
        self.logprob = 0.0
        self.logprob_before = 0.0
        """Begins with the empty text. Tokens may spell something before the text, which counts with its first byte."""
        for byte in vocabulary.prefix:
            self.read(byte)

    @property
    def num_spellings(self) -> int:
        """The number of spellings that are followed."""
        return len(self._spellings)

    def distribution(self) -> np.ndarray:
        """(257,) float64: the probability of each byte to come next, and of the end. Their sum is 1."""
        found = np.zeros(END + 1)
        highest = max((spelling.logprob for spelling in self._spellings), default=0.0)
        for spelling in self._spellings:
            values, starts = self._tree.children(spelling.node)
            weight = math.exp(spelling.logprob - highest)
            if len(values):
                probs = spelling.probs[: spelling.node.end]
                found[values] += weight * np.add.reduceat(probs, starts)
            if not spelling.node.depth:
                found[END] += weight * spelling.end_prob
        total = found.sum()
        return found / total if total > 0 else found

    @torch.no_grad()
    def read(self, byte: int) -> None:
        """One byte more."""
        kept: list[_Spelling] = []
        ending: list[tuple[_Spelling, int, float]] = []
        for spelling in self._spellings:
            node = self._tree.child(spelling.node, byte)
            if node is None:
                continue
            for row in range(node.start, node.longer):
                prob = float(spelling.probs[row])
                if prob > 0:
                    ending.append((spelling, int(self._tree.ids[row]), spelling.logprob + math.log(prob)))
            if node.longer < node.end:
                spelling.node = node
                kept.append(spelling)
        if self._most is not None and len(ending) > self._most:
            ending = sorted(ending, key=lambda each: -each[2])[: self._most]
        if ending:
            first_of = {id(spelling.states): i for i, (spelling, *_) in reversed(list(enumerate(ending)))}
            ending.sort(key=lambda each: first_of[id(each[0].states)])  # so that each state is selected from once
            state = _joined([spelling for spelling, _, _ in ending])
            kept += self._after([[token] for _, token, _ in ending], state, [logprob for *_, logprob in ending])
        self._spellings = self._likeliest(kept)
        self.logprob = _log_sum(spelling.logprob + _log(spelling.reached) for spelling in self._spellings)

    def _likeliest(self, spellings: list[_Spelling]) -> list[_Spelling]:
        if self._most is None or len(spellings) <= self._most:
            return spellings
        return sorted(spellings, key=lambda each: -(each.logprob + _log(each.reached)))[: self._most]

    @torch.no_grad()
    def _after(self, ids: Sequence[Sequence[int]], state: State, logprobs: Sequence[float]) -> list[_Spelling]:
        """The spellings that end with these ids, which continue from the rows of the state."""
        device = self._model.device
        seqs = Sequences.from_lengths([len(some) for some in ids], device=device)
        out = self._model(torch.tensor([id for some in ids for id in some], device=device), seqs, state)
        last = out.logits[seqs.cu_seqlens[1:] - 1].to("cpu", torch.float64).numpy()
        assert out.state is not None
        found = []
        for i, (logits, logprob) in enumerate(zip(last, logprobs, strict=True)):
            wanted = np.append(logits[self._tree.ids], logits[self._eos_id])
            probs = np.exp(wanted - wanted.max())
            probs /= probs.sum()
            found.append(_Spelling(logprob, probs[:-1], float(probs[-1]), out.state, i, self._tree.root))
        return found


def _joined(spellings: Sequence[_Spelling]) -> State:
    """Their states; those that share one stand together."""
    groups = [list(group) for _, group in groupby(spellings, key=lambda spelling: id(spelling.states))]
    parts = [group[0].states.select([spelling.slot for spelling in group]) for group in groups]
    return type(parts[0]).join(parts)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _log_sum(logs: Iterable[float]) -> float:
    values = list(logs)
    highest = max(values, default=-math.inf)
    if highest == -math.inf:
        return highest
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))
