"""Enrichment, agreement, common chunks and stability of known cuts, and of a model."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from hnet_lm.config import HNetConfig
from hnet_lm.evaluation import ByteScorer, CarriedState, Passage, PassageScore, SlidingWindow
from hnet_lm.evaluation.boundary_report import BoundaryReport
from hnet_lm.evaluation.enrichment import EnrichmentCollector
from hnet_lm.evaluation.stability import HORIZON, PIECE_BYTES, SHIFTS, Stability, stability
from hnet_lm.genome import BedInterval
from hnet_lm.inspect import chunks
from hnet_lm.model import HNetLM

TEXT = b"Call me Ishmael. Some years ago - never mind how long precisely - having little or no money in my purse"


def score(surprisal: list[float], *starts: list[int]) -> PassageScore:
    offsets = tuple(np.array(s, dtype=np.int64) for s in starts)
    values = np.array(surprisal)
    return PassageScore(-values.sum(), len(values), 0.0, False, offsets, -values)


@pytest.mark.parametrize("context", [CarriedState(7), SlidingWindow(12, 5)])
def test_surprisal_of_each_byte(model: HNetLM, context) -> None:
    passages = [Passage(TEXT), Passage(b"x"), Passage(TEXT[50:], TEXT[:50])]
    for found in ByteScorer(model, context, byte_logprobs=True, call_bytes=64).score(passages):
        assert found.byte_logprobs is not None
        assert len(found.byte_logprobs) == found.num_bytes
        assert found.byte_logprobs.sum() == pytest.approx(found.logprob)
        assert (found.byte_logprobs < 0).all()
    (whole,) = ByteScorer(model, byte_logprobs=True).score(passages[:1])
    (part,) = ByteScorer(model, byte_logprobs=True).score(passages[2:])
    assert whole.byte_logprobs is not None
    assert part.byte_logprobs == pytest.approx(whole.byte_logprobs[50:])
    (without,) = ByteScorer(model).score(passages[:1])
    assert without.byte_logprobs is None


def test_enrichment_of_known_cuts() -> None:
    collector = EnrichmentCollector()
    collector.add(score([1, 1, 1, 5, 1, 1, 9, 1], [0, 2, 5], [0]))
    collector.add(score([2, 2, 6, 2], [0, 1], [0]))
    outer, inner = collector.enrichments()
    mean = (20 + 12) / 12
    assert outer.value == pytest.approx((5 + 9 + 6) / 3 / mean)  # the bytes behind those at 2, 5 and 1
    assert outer.first_byte == pytest.approx((1 + 1 + 2) / 3 / mean)
    assert outer.num_cuts == 3
    assert math.isnan(inner.value)
    assert inner.to_json()["value"] is None


def test_the_null_keeps_the_pattern_of_the_cuts() -> None:
    random = np.random.default_rng(0)
    surprisal = random.exponential(size=4000)
    cuts = np.flatnonzero(surprisal[1:] > 2.0)
    collector = EnrichmentCollector()
    collector.add(score(surprisal.tolist(), [0, *cuts[cuts > 0].tolist()], list(range(0, 4000, 7))))
    chosen, regular = collector.enrichments()
    assert chosen.value > 2.5
    for found in (chosen, regular):
        assert found.null_low < 1 < found.null_high
        assert found.null_mean == pytest.approx(1, abs=0.03)
    assert chosen.null_high < chosen.value
    assert regular.null_low <= regular.value <= regular.null_high
    assert collector.enrichments() == [chosen, regular]


def test_a_score_without_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="unit_starts=True, byte_logprobs=True"):
        EnrichmentCollector().add(PassageScore(0.0, 1, 0.0, False))


def test_domains_are_summed() -> None:
    report = BoundaryReport(tolerance=1)
    genes = [BedInterval("", 0, 9, "g", "+", ((0, 9),))]
    report.add("a", b"the cat", score([1.0] * 7, [0, 3, 5]), {"spaces": np.array([3])}, genes)
    report.add("a", b"the dog", score([1.0] * 7, [0, 3]), {"spaces": np.array([3])}, genes)
    report.add("b", b"x", score([1.0], [0]), {})
    (stage,) = report.domains["a"].stages
    assert stage.common(2) == [(b"the", 2), (b" c", 1)]
    found = stage.agreements["spaces"]
    assert (found.num_boundaries, found.num_shared, found.num_reference, found.num_found) == (3, 2, 2, 2)
    assert found.chance_precision == 6 / 12
    assert stage.phases["both"].num_cuts == (2, 0, 1)
    facts = json.loads(json.dumps(report.to_json()))
    assert facts["a"][0]["bytes_per_chunk"] == 14 / 5
    assert facts["b"][0]["agreement"] == []


def test_stability_counts_cuts_at_the_same_bytes() -> None:
    found = Stability()
    found.add(np.array([3, 5, 9]), np.array([5, 10]))
    assert found.f1 == 2 / 5
    assert math.isnan(Stability().f1)


def test_stability_of_a_model(model: HNetLM) -> None:
    text = TEXT * 3
    found = stability(model, [text, b"short"])
    assert len(found) == 2
    before = chunks(model, text).stages[0].starts
    after = [chunks(model, text[shift:]).stages[0].starts for shift in SHIFTS]
    both = sum(len(np.intersect1d(before[before > k], a[1:] + k)) for k, a in zip(SHIFTS, after, strict=True))
    assert found[0].shift.num_both == both
    assert 0 < found[0].shift.f1 <= 1
    assert 0 < found[0].changed_byte.f1 <= 1
    assert stability(model, [text])[0].to_json() == found[0].to_json()
    assert HORIZON < PIECE_BYTES


def test_cuts_that_depend_on_one_byte_alone_are_stable(make_model: Callable[..., HNetLM]) -> None:
    """Those of SpaceByte's rule: what changes at a changed byte and the one behind it is not counted."""
    config = make_model(["m1", ["T1"], "m1"]).config.to_dict() | {"chunkers": [{"name": "space"}]}
    (found,) = stability(HNetLM(HNetConfig.from_dict(config)), [TEXT * 3])
    assert found.shift.num_both > 50
    assert found.shift.f1 == found.changed_byte.f1 == 1.0
