import json

import numpy as np
import pytest

from hnet_lm.evaluation import BoundaryStatistics, ByteScorer, CarriedState, PassageScore, bits_per_byte
from hnet_lm.inspect import chunks, summarize
from hnet_lm.model import HNetLM


def score(data: bytes, *starts: list[int]) -> PassageScore:
    return PassageScore(0.0, len(data), 0.0, False, tuple(np.array(s, dtype=np.int64) for s in starts))


def test_figures_of_known_chunks() -> None:
    statistics = BoundaryStatistics()
    data = b"It is  a test"
    statistics.add("english", data, score(data, [0, 2, 3, 6, 7, 9, 11], [0, 9]))
    statistics.add("english", b"so on", score(b"so on", [0, 2], [0]))
    outer, inner = statistics.domains["english"]
    lengths = [2, 1, 3, 1, 2, 2, 2, 2, 3]
    assert outer.num_chunks == 9
    assert outer.bytes_per_chunk == pytest.approx(np.mean(lengths))
    assert outer.length_sd == pytest.approx(np.std(lengths))
    assert outer.histogram.tolist() == [0, 2, 5, 2]
    # 7 cuts: at the space behind "It" and "so"; at "is", "a" and "test"; inside "test" and between two spaces.
    assert outer.space_share == pytest.approx(2 / 7)
    assert outer.word_share == pytest.approx(3 / 7)
    assert inner.histogram.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1]
    assert inner.word_share == 1.0


def test_agrees_with_the_pictures_of_the_same_text(model: HNetLM) -> None:
    texts = {
        "english": [b"Call me Ishmael. Some years ago - never mind how long", b"precisely"],
        "other": ["名可名".encode()],
    }
    statistics = BoundaryStatistics()
    bits_per_byte(ByteScorer(model, CarriedState(7), unit_starts=True), texts, statistics.add)
    (other,) = texts["other"]
    for ours, theirs in zip(statistics.domains["other"], summarize(chunks(model, other)), strict=True):
        assert ours.bytes_per_chunk == theirs.bytes_per_chunk
        assert ours.histogram.tolist() == list(theirs.histogram)
    assert [stage.num_bytes for stage in statistics.domains["english"]] == [62, 62]
    assert len(json.loads(json.dumps(statistics.to_json()))["english"]) == 2


def test_a_document_of_one_byte_has_no_cut() -> None:
    statistics = BoundaryStatistics()
    statistics.add("", b"x", score(b"x", [0]))
    assert statistics.to_json()[""][0]["starts_at_word"] is None


def test_a_score_without_units_is_refused() -> None:
    with pytest.raises(ValueError, match="unit_starts=True"):
        BoundaryStatistics().add("", b"x", PassageScore(0.0, 1, 0.0, False))
