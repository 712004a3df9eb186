import gzip
import json
import lzma
import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
import zstandard

from hnet_lm.errors import DataError
from hnet_lm.evaluation import (
    BitsPerByte,
    ByteScorer,
    CarriedState,
    DocumentResult,
    Passage,
    PassageScore,
    bits_per_byte,
    compressor_bits_per_byte,
)
from hnet_lm.model import HNetLM

ENGLISH = [b"A sentence. ", b"", b"Another, rather longer sentence: it goes on.", b"x"]
CHINESE = ["天地玄黃 🤖".encode(), "宇宙洪荒".encode()]


def test_equals_a_slow_computation(model: HNetLM) -> None:
    bits, num_bytes = 0.0, 0
    for document in ENGLISH + CHINESE:
        state = model.new_state(1)
        previous = model.config.bos_id
        for byte in document:
            out = model(torch.tensor([previous]), None, state)
            state, previous = out.state, byte
            bits -= math.log2(float(out.logits[0].softmax(0)[byte]))
            num_bytes += 1
    for piece in (9, 4096):
        scorer = ByteScorer(model, CarriedState(piece), call_bytes=48)
        results = bits_per_byte(scorer, {"english": ENGLISH, "chinese": iter(CHINESE)})
        assert results.value == pytest.approx(bits / num_bytes, abs=1e-6)
        assert results.num_bytes == num_bytes


def test_domains_and_the_end_of_documents(model: HNetLM) -> None:
    scorer = ByteScorer(model)
    seen: list[tuple[str, bytes, float]] = []
    results = bits_per_byte(
        scorer, {"english": ENGLISH, "chinese": CHINESE}, lambda *found: seen.append((*found[:2], found[2].logprob))
    )
    alone = bits_per_byte(scorer, {"": CHINESE})
    assert results.by_domain["chinese"].value == pytest.approx(alone.value, abs=1e-9)
    assert [data for _, data, _ in seen] == [data for data in ENGLISH + CHINESE if data]
    assert [-nats for _, _, nats in seen] == [document.nats for document in results.documents]
    eos = sum(d.eos_nats for d in results.documents)
    assert results.value_with_eos == pytest.approx(results.value + eos / math.log(2) / results.num_bytes)
    report = json.loads(json.dumps(results.to_json()))
    assert report["domains"]["english"]["num_documents"] == 3
    assert report["interval_95"][0] <= report["bits_per_byte"] <= report["interval_95"][1]


class WordScorer:
    """A model of other units: every word, with its space, has probability 1/1000."""

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        for passage in passages:
            yield PassageScore(-len(passage.data.split()) * math.log(1000), len(passage.data), 0.0, False)


def test_a_model_of_tokens_is_measured_over_bytes() -> None:
    results = bits_per_byte(WordScorer(), {"": [b"two words", "drei Wörter 🤖".encode()]})
    assert results.value == pytest.approx(5 * math.log2(1000) / (9 + 17))


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        lengths = random.integers(50, 500, size=40)
        rates = random.normal(0.7, 0.1, size=40)
        documents = [DocumentResult("", n * r, int(n), 0.0) for n, r in zip(lengths, rates, strict=True)]
        interval = BitsPerByte(tuple(documents)).interval(num_resamples=200, seed=trial)
        assert interval is not None
        covered += interval.low <= 0.7 / math.log(2) <= interval.high
    assert 88 <= covered <= 99


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_interval_is_the_quantiles_of_resampled_results(confidence: float) -> None:
    documents = [
        DocumentResult("", float(nats), n, 0.0) for nats, n in [(30, 10), (10, 20), (90, 40), (20, 15), (8, 9)]
    ]
    random = np.random.default_rng(5)
    table = np.array([(d.nats, d.num_bytes) for d in documents])
    sums = [table[random.integers(5, size=5)].sum(0) for _ in range(300)]
    values = sorted(nats / num_bytes / math.log(2) for nats, num_bytes in sums)
    interval = BitsPerByte(tuple(documents)).interval(confidence, num_resamples=300, seed=5)
    assert interval is not None
    assert interval.low == pytest.approx(np.quantile(values, 0.5 - confidence / 2))
    assert interval.high == pytest.approx(np.quantile(values, 0.5 + confidence / 2))
    results = BitsPerByte(tuple(documents))
    assert (whole := results.interval(0.95)) is not None
    assert results.to_json()["interval_95"] == [whole.low, whole.high]


def test_interval_is_seeded_and_needs_two_documents() -> None:
    documents = tuple(DocumentResult(domain, n * 1.5, n, 0.0) for domain, n in [("a", 10), ("a", 30), ("b", 7)])
    many = [DocumentResult("a", float(n % 7), n, 0.0) for n in range(1, 30)]
    results = BitsPerByte((*documents, *many))
    assert results.interval(seed=3) == results.interval(seed=3) != results.interval(seed=4)
    assert results.by_domain["b"].interval() is None
    # Each domain keeps its number of documents, so equal rates within the domains leave no spread at all.
    fixed = BitsPerByte((*documents[:2], DocumentResult("b", 70.0, 7, 0.0)))
    interval = fixed.by_domain["a"].interval()
    assert interval is not None
    assert interval.low == pytest.approx(interval.high)


def test_nothing_to_measure(model: HNetLM) -> None:
    with pytest.raises(DataError, match="english is empty"):
        bits_per_byte(ByteScorer(model), {"english": [b""]})


def test_compressors() -> None:
    data = b"to be or not to be, that is the question. " * 40
    sizes = {
        "gzip": len(gzip.compress(data, 9)),
        "xz": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
        "zstd": len(zstandard.ZstdCompressor(level=22).compress(data)),
    }
    for name, size in sizes.items():
        assert compressor_bits_per_byte(data, name) == pytest.approx(8 * size / len(data))
    with pytest.raises(DataError, match="known are gzip, xz, zstd"):
        compressor_bits_per_byte(data, "rar")
    with pytest.raises(DataError, match="no bytes"):
        compressor_bits_per_byte(b"", "gzip")
