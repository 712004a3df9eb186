"""Scores equal one byte after the other, whatever the pieces, the batch and the company."""

import random

import numpy as np
import pytest
import torch

from hnet_lm.errors import ConfigError, DataError
from hnet_lm.evaluation import ByteScorer, CarriedState, Passage, PassageScore, SlidingWindow
from hnet_lm.model import HNetLM

TEXT = "It was the best of times 🤖, 它是最坏的时代; it was the worst of times.\n".encode()


def passages() -> list[Passage]:
    """Ragged: empty ones, single bytes, prompts with and without data, texts of many lengths."""
    draw = random.Random(0)
    texts = [b"", b"x", TEXT, TEXT * 3, b"", TEXT[7:20]]
    texts += [TEXT[(start := draw.randrange(20)) : start + draw.randrange(50)] for _ in range(6)]
    return [Passage(text, TEXT[: draw.choice([0, 0, 1, 17])]) for text in texts]


def slow_score(model: HNetLM, passage: Passage) -> PassageScore:
    """One whole sequence without any state, one log-softmax a position, summed in Python."""
    ids = [model.config.bos_id, *passage.prompt, *passage.data]
    log_probs = model(torch.tensor(ids)).logits.log_softmax(-1)
    logprob, is_greedy = 0.0, True
    for position in range(len(passage.prompt), len(ids) - 1):
        logprob += float(log_probs[position, ids[position + 1]])
        is_greedy &= int(log_probs[position].argmax()) == ids[position + 1]
    return PassageScore(logprob, len(passage.data), float(log_probs[-1, model.config.eos_id]), is_greedy)


def slow_starts(model: HNetLM, data: bytes) -> list[list[int]]:
    """Chunk starts of each stage, by walking down the stages in Python."""
    routings = model(torch.tensor([model.config.bos_id, *data])).routings
    offsets = list(range(-1, len(data)))
    found = []
    for routing in routings:
        offsets = [offset for offset, cut in zip(offsets, routing.is_boundary.tolist(), strict=True) if cut]
        found.append(sorted({0, *(offset for offset in offsets if offset >= 0)}))
    return found


def assert_same(found: list[PassageScore], expected: list[PassageScore]) -> None:
    assert [s.num_bytes for s in found] == [s.num_bytes for s in expected]
    assert [s.is_greedy for s in found] == [s.is_greedy for s in expected]
    np.testing.assert_allclose([s.logprob for s in found], [s.logprob for s in expected], atol=1e-8)
    np.testing.assert_allclose([s.eos_logprob for s in found], [s.eos_logprob for s in expected], atol=1e-8)


@pytest.mark.parametrize(
    ("piece", "call", "active"), [(4096, 16384, 64), (2, 7, 3), (5, 16, 3), (7, 7, 64), (33, 50, 1)]
)
def test_any_pieces_and_batches_equal_one_pass(model: HNetLM, piece: int, call: int, active: int) -> None:
    scorer = ByteScorer(model, CarriedState(piece), call_bytes=call, max_active=active)
    assert_same(list(scorer.score(passages())), [slow_score(model, passage) for passage in passages()])


def test_what_the_model_finds_likeliest_is_greedy(model: HNetLM) -> None:
    prompt, data = TEXT[:10], b""
    for _ in range(5):
        logits = model(torch.tensor([model.config.bos_id, *prompt, *data])).logits[-1, :254]
        data += bytes([int(logits.argmax())])
    (score,) = ByteScorer(model).score([Passage(data, prompt)])
    assert score.is_greedy == slow_score(model, Passage(data, prompt)).is_greedy
    other = data[:-1] + bytes([data[-1] ^ 1])
    assert not next(ByteScorer(model).score([Passage(other, prompt)])).is_greedy


def test_sliding_windows_equal_each_window_alone(model: HNetLM) -> None:
    window, stride, data = 16, 5, TEXT
    ids = [model.config.bos_id, *data]
    targets = [*data, model.config.eos_id]
    log_probs = {}
    for end in [*range(window, len(ids), stride), len(ids)]:
        start = max(end - window, 0)
        rows = model(torch.tensor(ids[start:end])).logits.log_softmax(-1)
        for position in range(start, end):
            log_probs.setdefault(position, float(rows[position - start, targets[position]]))
    found = list(ByteScorer(model, SlidingWindow(window, stride)).score([Passage(data), Passage(data[20:], data[:20])]))
    assert found[0].logprob == pytest.approx(sum(log_probs[i] for i in range(len(data))), abs=1e-8)
    assert found[1].logprob == pytest.approx(sum(log_probs[i] for i in range(20, len(data))), abs=1e-8)
    assert [score.eos_logprob for score in found] == pytest.approx([log_probs[len(data)]] * 2, abs=1e-8)


def test_a_window_of_the_whole_text_equals_carried_state(model: HNetLM) -> None:
    windowed = ByteScorer(model, SlidingWindow(len(TEXT) + 1, 1)).score([Passage(TEXT)])
    assert_same(list(windowed), list(ByteScorer(model).score([Passage(TEXT)])))


@pytest.mark.parametrize("piece", [4, 4096])
def test_unit_starts_are_the_chunks_of_every_stage(model: HNetLM, piece: int) -> None:
    scorer = ByteScorer(model, CarriedState(piece), call_bytes=64, unit_starts=True)
    whole, part, empty = scorer.score([Passage(TEXT * 2), Passage(TEXT[9:], TEXT[:9]), Passage(b"")])
    expected = slow_starts(model, TEXT * 2)
    assert [starts.tolist() for starts in whole.unit_starts or ()] == expected
    assert all(len(starts) > 3 for starts in expected)
    after_prompt = [sorted({0, *(o - 9 for o in starts if o >= 9)}) for starts in slow_starts(model, TEXT)]
    assert [starts.tolist() for starts in part.unit_starts or ()] == after_prompt
    assert [starts.tolist() for starts in empty.unit_starts or ()] == [[], []]


def test_an_isotropic_model_has_no_units(make_model) -> None:
    (score,) = ByteScorer(make_model(["m1t1"]), unit_starts=True).score([Passage(TEXT)])
    assert score.unit_starts == ()


def test_passages_are_taken_one_by_one(model: HNetLM) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Passage(TEXT)

    scores = ByteScorer(model, call_bytes=200).score(endless())
    next(scores), next(scores)
    assert taken < 10


def test_special_bytes(model: HNetLM, binary_model: HNetLM) -> None:
    with pytest.raises(DataError, match="passage 1: byte 2 is 0xfe, which this model reads as BOS"):
        list(ByteScorer(model).score([Passage(b"fine"), Passage(b"ab\xfe")]))
    data = bytes(range(256))
    assert_same(list(ByteScorer(binary_model).score([Passage(data)])), [slow_score(binary_model, Passage(data))])


@pytest.mark.parametrize("options", [{"call_bytes": 0}, {"max_active": 0}])
def test_sizes_must_be_positive(model: HNetLM, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be a whole number, 1 or more"):
        ByteScorer(model, **options)
    with pytest.raises(ConfigError, match="window_bytes: must be a whole number, 9 or more, got 8"):
        SlidingWindow(8, 9)
