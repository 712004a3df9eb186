"""Sources mixed by weight, dealt to streams, in bounded memory."""

import itertools
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from data_corpora import random_texts, write_jsonl

from hnet_lm.data import DataConfig, DataLoader, SourceConfig
from hnet_lm.data.block import Block
from hnet_lm.data.runs import run_of
from hnet_lm.data.source import Source
from hnet_lm.data.stream import Stream


def test_weights_are_shares_of_positions(tmp_path: Path) -> None:
    short = write_jsonl(tmp_path / "short.jsonl", random_texts(300, longest=10))
    long = write_jsonl(tmp_path / "long.jsonl", random_texts(300, seed=1, longest=2000))
    sources = (SourceConfig(str(short), weight=3.0), SourceConfig(str(long), weight=1.0))
    config = DataConfig(sources, tokens_per_batch=1000, max_length=100, shuffle_bytes=20_000)
    shares: Counter[int] = Counter()
    for batch in itertools.islice(DataLoader(config), 100):
        for length, source in zip(batch.sequences.host_lengths, batch.origin[:, 0].tolist(), strict=True):
            shares[source] += length
    assert shares[0] / shares.total() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("num_files", [1, 2, 3, 7])
def test_streams_share_the_documents_without_overlap(tmp_path: Path, num_files: int) -> None:
    for number in range(num_files):
        write_jsonl(tmp_path / f"{number}.jsonl", random_texts(10, seed=number))
    config = SourceConfig(str(tmp_path / "*.jsonl"))
    seen: list[tuple[int, int]] = []
    for stream in range(3):
        source = Source(config, 0, vocab_size=256, report=pytest.fail, stream=stream, num_streams=3)
        own = [(placed.file, placed.part.record) for placed in source.epoch(0)]
        assert own
        seen += own
    assert len(seen) == len(set(seen))
    assert set(seen) == {(file, record) for file in range(num_files) for record in range(10)}


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_memory_is_bounded_by_the_buffer(tmp_path: Path, suffix: str) -> None:
    """15 MB of data, in the text file a single document, through a buffer of 1 MB."""
    path = tmp_path / f"corpus{suffix}"
    with path.open("w") as file:
        for _ in range(15_000):
            file.write("x" * 1000 if suffix == ".txt" else '{"text": "' + "x" * 987 + '"}\n')
    config = DataConfig((SourceConfig(str(path)),), tokens_per_batch=10_000, max_length=1000, shuffle_bytes=1_000_000)
    stream = Stream(config, 0, 256)
    tracemalloc.start()
    for _ in range(1700):
        stream.next()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_a_block_takes_no_more_than_its_capacity(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("x" * 5000)
    source = Source(SourceConfig(str(tmp_path / "corpus.txt")), 0, vocab_size=256, report=pytest.fail)
    block = Block(700)
    run = run_of(next(iter(source.epoch(0))).part, 0, 0, 0)
    assert (block.add(run), block.is_full, block.num_positions, len(block.tokens)) == (700, True, 700, 701)
    assert run.after(700).num_inputs == 5001 - 700
