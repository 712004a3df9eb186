"""Probabilities of bytes under a model of tokens: exact sums over all spellings, compared with trying every one."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.data.byte_pairs import BytePairs, train_byte_pairs
from hnet_lm.errors import ConfigError
from hnet_lm.evaluation import Passage, SpellingScorer, TokenScorer
from hnet_lm.evaluation.token_tree import TokenTree
from hnet_lm.model import HNetLM

TEXT = b"abab abba ab"
ATTENTION = {"num_heads": [2], "rotary_emb_dim": [8], "window_size": [-1]}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> BytePairs:
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    train_byte_pairs([b"abab abba ab abab ab ba bab abab"] * 9, 264, path)
    return BytePairs(path)


@pytest.fixture(scope="module")
def model(pairs: BytePairs) -> HNetLM:
    """Its probabilities are uneven, and in float64."""
    config = {"arch_layout": ["T2"], "d_model": [16], "d_intermediate": [16], "vocab_size": pairs.vocab_size}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = HNetLM(HNetConfig.from_dict({**config, "attn_cfg": ATTENTION, "reads_tokens": True})).double()
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        assert model.lm_head is not None
        model.lm_head.weight.data *= 3
    return model.requires_grad_(False)


class EverySpelling:
    """The probability of a beginning of a text, by writing down every cover of it."""

    def __init__(self, model: HNetLM, said: list[bytes], prompt: list[int]) -> None:
        self.model, self.said, self.prompt = model, said, prompt
        self.ids = [id for id, data in enumerate(said) if data]
        self.next_probs = cache(self._next_probs)

    def _next_probs(self, spelling: tuple[int, ...]) -> torch.Tensor:
        logits = self.model(torch.tensor([self.model.config.bos_id, *self.prompt, *spelling])).logits[-1]
        allowed = torch.full_like(logits, -math.inf)
        allowed[[*self.ids, self.model.config.eos_id]] = 0
        return (logits + allowed).softmax(-1)

    def beginning(self, text: bytes, spelling: tuple[int, ...] = ()) -> float:
        """Of a text that begins so, after these tokens of it."""
        if not text:
            return 1.0
        probs, total = self.next_probs(spelling), 0.0
        for id in self.ids:
            data = self.said[id]
            if data.startswith(text):
                total += float(probs[id])
            elif text.startswith(data):
                total += float(probs[id]) * self.beginning(text[len(data) :], (*spelling, id))
        return total

    def whole(self, text: bytes, spelling: tuple[int, ...] = ()) -> float:
        """Of a text that is this and ends there."""
        probs = self.next_probs(spelling)
        if not text:
            return float(probs[self.model.config.eos_id])
        return sum(
            float(probs[id]) * self.whole(text[len(self.said[id]) :], (*spelling, id))
            for id in self.ids
            if text.startswith(self.said[id])
        )


@pytest.mark.parametrize("prompt", [b"", b"ab b"])
def test_equals_every_spelling_tried(model: HNetLM, pairs: BytePairs, prompt: bytes):
    every = EverySpelling(model, list(pairs.token_bytes), pairs.encode(prompt).ids.tolist() if prompt else [])
    scorer = SpellingScorer(model, pairs)
    rows = scorer.distributions(TEXT, prompt)
    for n in range(0, len(TEXT) + 1, 3):
        before = every.beginning(TEXT[:n])
        for byte in b"ab c":
            expected = every.beginning(TEXT[:n] + bytes([byte])) / before
            assert rows[n, byte] == pytest.approx(expected, rel=1e-9)
        assert rows[n, 256] == pytest.approx(every.whole(TEXT[:n]) / before, rel=1e-9)
    (score,) = scorer.score([Passage(TEXT, prompt)])
    assert score.logprob == pytest.approx(math.log(every.beginning(TEXT)), rel=1e-9)
    assert score.logprob + score.eos_logprob == pytest.approx(math.log(every.whole(TEXT)), rel=1e-9)
    assert score.byte_logprobs is not None
    assert score.byte_logprobs.sum() == pytest.approx(score.logprob, rel=1e-12)
    taken = np.log(rows[np.arange(len(TEXT)), list(TEXT)])
    np.testing.assert_allclose(score.byte_logprobs, taken, rtol=1e-9, atol=1e-12)  # some are near 0


@pytest.mark.parametrize("most", [None, 3])
def test_sums_to_one_at_every_position(model: HNetLM, pairs: BytePairs, most: int | None):
    rows = SpellingScorer(model, pairs, most).distributions("ab é\xff".encode("latin-1"))
    np.testing.assert_allclose(rows.sum(1), 1, rtol=0, atol=1e-6)
    assert (rows[:, :256] > 0).all()


def test_lies_between_the_canonical_spelling_and_the_truth(model: HNetLM, pairs: BytePairs):
    (canonical,) = TokenScorer(model, pairs).score([Passage(TEXT)])
    (few,) = SpellingScorer(model, pairs, 4).score([Passage(TEXT)])
    (exact,) = SpellingScorer(model, pairs).score([Passage(TEXT)])
    assert few.logprob <= exact.logprob + 1e-9
    assert canonical.logprob < exact.logprob
    with pytest.raises(ConfigError, match="max_spellings: must be a whole number, 1 or more, got 0"):
        SpellingScorer(model, pairs, 0)


def test_tree_of_tokens():
    tree = TokenTree([b"", b"ab", b"a", b"b", b"ab", b"abc", b"ca"])
    assert tree.ids.tolist() == [2, 1, 4, 5, 3, 6]
    a = tree.child(tree.root, ord("a"))
    assert a is not None
    assert (a.start, a.longer, a.end) == (0, 1, 4)
    ab = tree.child(a, ord("b"))
    assert ab is not None
    assert (ab.start, ab.longer, ab.end) == (1, 3, 4)
    assert tree.child(a, ord("c")) is None
    assert tree.children(tree.root).values.tolist() == list(b"abc")
    assert tree.children(tree.child(ab, ord("c")) or ab).values.tolist() == []
