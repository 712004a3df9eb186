"""From documents to batches: BOS, EOS, cutting, boundaries, budgets, shuffling."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from data_corpora import is_same, random_texts, targets_by_document, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from hnet_lm.data import Batch, DataConfig, DataLoader, SourceConfig, one_pass
from hnet_lm.data.block import Block, PackedBlock
from hnet_lm.data.runs import Run
from hnet_lm.errors import ConfigError, DataError
from thoroughness import examples


def loader_of(path: Path, **options: int) -> DataLoader:
    sizes = {"tokens_per_batch": 12, "max_length": 8, "shuffle_bytes": 0} | options
    vocab_size = sizes.pop("vocab_size", 256)
    return DataLoader(DataConfig((SourceConfig(str(path)),), **sizes), vocab_size=vocab_size)  # pyright: ignore[reportArgumentType]  sizes by name


@pytest.mark.parametrize("vocab_size", [256, 258])
def test_a_batch_by_hand(tmp_path: Path, vocab_size: int) -> None:
    bos, eos = vocab_size - 2, vocab_size - 1
    path = write_jsonl(tmp_path / "corpus.jsonl", ["abc", "defghijklm"])
    loader = loader_of(path, vocab_size=vocab_size)
    batch = next(loader)
    assert batch.input_ids.tolist() == [bos, *b"abc", bos, *b"defghij"]
    assert batch.targets.tolist() == [*b"abc", eos, *b"defghijk"]
    assert batch.sequences.host_lengths == [4, 8]
    assert batch.origin.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert batch.num_bytes == 11
    batch = next(loader)
    assert batch.input_ids.tolist() == [*b"klm", bos, *b"abc", bos, *b"defg"]
    assert batch.targets.tolist() == [*b"lm", eos, *b"abc", eos, *b"defgh"]
    assert batch.sequences.host_lengths == [3, 4, 5]
    assert batch.origin.tolist() == [[0, 0, 0, 1, 8], [0, 1, 0, 0, 0], [0, 1, 0, 1, 0]]


@given(
    documents=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12),
    tokens_per_batch=st.integers(1, 60),
    max_length=st.integers(1, 30),
    shuffle=st.booleans(),
)
@settings(max_examples=examples(40), deadline=None)
def test_every_target_comes_once_whatever_the_sizes(
    documents: list[bytes], tokens_per_batch: int, max_length: int, shuffle: bool
) -> None:
    block = Block(1 << 20)
    for record, data in enumerate(documents):
        block.add(Run(b"\0" + data + b"\0", True, True, (0, 0, 0, record, 0)))
    packed = PackedBlock(
        block,
        tokens_per_batch=tokens_per_batch,
        max_length=max_length,
        vocab_size=258,
        shuffle=np.random.default_rng(5) if shuffle else None,
    )
    batches = [Batch.from_arrays(packed.arrays(number)) for number in range(len(packed))]
    assert [len(batch.targets) for batch in batches[:-1]] == [tokens_per_batch] * (len(batches) - 1)
    assert all(batch.sequences.max_length <= max_length for batch in batches)
    assert all(batch.sequences.num_positions == len(batch.input_ids) for batch in batches)
    assert sum(batch.num_bytes for batch in batches) == sum(map(len, documents))
    found = targets_by_document(batches)
    for record, data in enumerate(documents):
        places = found[0, 0, 0, record]
        assert [places[place] for place in range(len(data) + 1)] == [*data, 257]
    for batch in batches:
        assert_sequences_are_of_one_document(batch, documents)


def assert_sequences_are_of_one_document(batch: Batch, documents: list[bytes]) -> None:
    begin = 0
    for length, (_, _, _, record, offset) in zip(batch.sequences.host_lengths, batch.origin.tolist(), strict=True):
        tokens = [256, *documents[record], 257]
        assert batch.input_ids[begin : begin + length].tolist() == tokens[offset : offset + length]
        assert batch.targets[begin : begin + length].tolist() == tokens[offset + 1 : offset + 1 + length]
        begin += length


def test_every_batch_has_the_budget(corpus: Path) -> None:
    config = DataConfig((SourceConfig(str(corpus / "part*")),), tokens_per_batch=777, max_length=99, shuffle_bytes=5000)
    for batch in itertools.islice(DataLoader(config), 50):
        assert batch.input_ids.shape == batch.targets.shape == (777,)
        assert batch.input_ids.dtype == batch.targets.dtype == torch.int64
        assert batch.sequences.max_length <= 99


def test_seed_decides(corpus: Path) -> None:
    def batches(seed: int) -> list[Batch]:
        source = SourceConfig(str(corpus / "part*"))
        config = DataConfig((source,), tokens_per_batch=500, max_length=50, shuffle_bytes=4000, seed=seed)
        return list(itertools.islice(DataLoader(config), 20))

    first, again, other = batches(0), batches(0), batches(1)
    assert all(map(is_same, first, again))
    assert not any(map(is_same, first, other))


def test_epochs_are_shuffled_anew_and_not_into_each_other(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "corpus.jsonl", random_texts(50))
    config = DataConfig((SourceConfig(str(path)),), tokens_per_batch=100, max_length=100)
    epochs: dict[int, list[int]] = {}
    for batch in itertools.islice(DataLoader(config), 400):
        for _, epoch, _, record, _ in batch.origin.tolist():
            epochs.setdefault(epoch, []).append(record)
    assert len(epochs) >= 3
    assert epochs[0] != epochs[1] != sorted(epochs[1])
    assert set(epochs[0]) == set(epochs[1]) == set(range(50))


def test_files_are_read_in_another_order_each_epoch(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:02}.txt").write_text(f"file {number:02}")
    config = DataConfig((SourceConfig(str(tmp_path / "*.txt")),), tokens_per_batch=8, max_length=8, shuffle_bytes=8)
    origin = torch.cat([batch.origin for batch in itertools.islice(DataLoader(config), 24)])
    orders = [origin[origin[:, 1] == epoch, 2].unique_consecutive().tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


def test_one_pass_gives_everything_once_and_a_shorter_last_batch(corpus: Path) -> None:
    config = DataConfig((SourceConfig(str(corpus / "part*")),), tokens_per_batch=1000, max_length=64)
    batches = list(one_pass(config))
    sizes = [len(batch.targets) for batch in batches]
    assert sizes[:-1] == [1000] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= 1000
    texts = [text.encode() for number in range(3) for text in random_texts(40, seed=number)]
    assert sum(batch.num_bytes for batch in batches) == sum(map(len, texts))
    assert sum(sizes) == sum(len(text) + 1 for text in texts)
    targets_by_document(batches)
    assert len(list(one_pass(config, max_batches=2))) == 2


@pytest.mark.parametrize("value", [254, 255])
def test_bytes_that_the_small_vocabulary_reserves(tmp_path: Path, value: int) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(range(250)) + bytes([value]) + b"xy")
    with pytest.raises(DataError, match=rf"data.bin: record 1 holds the byte {value} at 250, .* vocab_size 258"):
        next(loader_of(path))
    batch = next(loader_of(path, vocab_size=258, tokens_per_batch=254, max_length=254))
    assert batch.targets.tolist() == [*range(250), value, *b"xy", 257]


def test_a_vocabulary_must_hold_all_bytes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocab_size 200 is below 256"):
        loader_of(write_jsonl(tmp_path / "corpus.jsonl", ["a"]), vocab_size=200)
