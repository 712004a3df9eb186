"""A hub dataset is read in its shards: a rank reads what it keeps, counted in bytes, and no row comes twice."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_corpora import is_same, targets_by_document

from hnet_lm.data import DataConfig, DataLoader, SourceConfig, documents, whole_state
from hnet_lm.errors import DataError

NUM_SHARDS, ROWS, TEXT_BYTES, OTHER_BYTES = 64, 8, 1_000, 20_000
SHARD_TEXT = ROWS * TEXT_BYTES
INDEX = 1 << 16
"""pyarrow reads so much from the end of a file to find its index there."""
RANKS = STREAMS = 16
linux = pytest.mark.skipif(sys.platform != "linux", reason="bytes are counted in /proc/self/io")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards whose text is a twentieth of what they hold; nothing in them can be compressed."""
    folder = tmp_path_factory.mktemp("shards")
    source = random.Random(0)

    def letters(size: int) -> str:
        return source.randbytes(size // 2).hex()

    for shard in range(NUM_SHARDS):
        rows = {"text": [letters(TEXT_BYTES) for _ in range(ROWS)], "html": [letters(OTHER_BYTES) for _ in range(ROWS)]}
        pq.write_table(pa.table(rows), folder / f"train-{shard:05d}-of-{NUM_SHARDS:05d}.parquet")
    return folder


def config_of(directory: Path, streams: int = STREAMS, split: str = "train", **options: Any) -> DataConfig:
    source = SourceConfig(f"hf:{directory}", split=split)
    sizes = {"tokens_per_batch": 1000, "max_length": 500, "shuffle_bytes": 2 * SHARD_TEXT}
    return DataConfig((source,), streams=streams, **{**sizes, **options})


def bytes_read() -> int:
    """By this process so far, from files of any kind."""
    return int(Path("/proc/self/io").read_text().partition("rchar: ")[2].split()[0])


def begun(config: DataConfig, rank: int, state: dict[str, Any] | None = None) -> tuple[DataLoader, int]:
    """A loader that has given a batch, and how much was read for it; the files were looked through before."""
    loader = DataLoader(config, vocab_size=258, rank=rank, num_ranks=RANKS)
    if state is not None:
        loader.load_state_dict(state)
    loader.state_dict()
    before = bytes_read()
    next(loader)
    return loader, bytes_read() - before


@linux
def test_a_rank_reads_what_it_keeps(directory: Path) -> None:
    """Its buffer holds the text of two shards; beside it the third one may be open, and indexes are read."""
    config = config_of(directory)
    begun(config, 0)  # whatever is imported and looked up once
    _, read = begun(config, 5)
    assert SHARD_TEXT < read < 3 * (SHARD_TEXT + INDEX)
    assert read < 0.03 * sum(path.stat().st_size for path in directory.iterdir())


@linux
def test_a_resume_reads_at_most_a_shard_again(directory: Path) -> None:
    config = config_of(directory)
    ranks = [begun(config, rank)[0] for rank in range(RANKS)]
    for _ in range(20):
        wanted = [next(rank) for rank in ranks]
    state = json.loads(json.dumps(whole_state([rank.state_dict() for rank in ranks])))
    resumed, read = begun(config, 3, state)
    assert read < 4 * (SHARD_TEXT + INDEX)
    for _ in range(19):
        next(ranks[3])
    for rank in ranks:
        rank.load_state_dict(state)
        wanted[rank.rank] = next(rank)
    resumed.load_state_dict(state)
    assert is_same(next(resumed), wanted[3])


@pytest.mark.parametrize("streams", [4, 12, 16])
def test_ranks_together_read_each_row_once(directory: Path, streams: int) -> None:
    """Whatever streams and ranks have in common: an epoch of all of them has every document, and none of it twice."""
    config = config_of(directory, streams)
    ranks = [DataLoader(config, vocab_size=258, rank=rank, num_ranks=8) for rank in range(8)]
    batches = [next(rank) for _ in range(40) for rank in ranks]
    found = targets_by_document(batches)
    assert len({(file, record) for _, _, file, record in found}) > 0.5 * NUM_SHARDS * ROWS
    alone = DataLoader(config, vocab_size=258)
    assert all(is_same(next(alone), batch) for batch in batches)
    assert whole_state([rank.state_dict() for rank in ranks]) == alone.state_dict()


def test_documents_come_in_the_order_of_the_shards(directory: Path) -> None:
    texts = [row for path in sorted(directory.iterdir()) for row in pq.read_table(path)["text"].to_pylist()]
    found = [document.data.decode() for document in documents(config_of(directory))]
    assert found == texts
    rows = documents(config_of(directory, split="train[100:200]"))
    assert [document.data.decode() for document in rows] == texts[100:200]


def test_the_state_of_one_rank_is_not_that_of_all(directory: Path) -> None:
    config = config_of(directory)
    loader = DataLoader(config, vocab_size=258, rank=1, num_ranks=RANKS)
    next(loader)
    with pytest.raises(DataError, match="this is the state of rank 1 of 16"):
        loader.load_state_dict(loader.state_dict())


def test_a_state_of_whole_datasets_is_refused(directory: Path) -> None:
    """An earlier version read a dataset as one file; its places mean others now."""
    loader = DataLoader(config_of(directory), vocab_size=258)
    with pytest.raises(DataError, match="another version"):
        loader.load_state_dict({**loader.state_dict(), "version": 2})
