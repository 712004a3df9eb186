"""Held-out documents: a split by hash, disjoint and complete, the same for every way of reading."""

import itertools
from pathlib import Path

import pytest
from data_corpora import random_texts, write_jsonl

from hnet_lm.data import DataConfig, DataLoader, FastaConfig, SourceConfig, documents
from hnet_lm.data.split import Split
from hnet_lm.errors import DataError
from hnet_lm.genome.codes import reverse_complement

FRACTION = 0.25


def config_of(path: Path | str, **options: object) -> DataConfig:
    sizes = {"tokens_per_batch": 300, "max_length": 64, "shuffle_bytes": 1500, **options}
    return DataConfig((SourceConfig(str(path)),), **sizes)  # pyright: ignore[reportArgumentType]


def records_trained_on(config: DataConfig, num_batches: int, **options: int) -> set[tuple[int, int]]:
    """File and record of every sequence of the loader's first batches."""
    with DataLoader(config, hold_out=FRACTION, **options) as loader:
        batches = list(itertools.islice(loader, num_batches))
    return {(file, record) for batch in batches for _, _, file, record, _ in batch.origin.tolist()}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "corpus.jsonl", random_texts(120))


@pytest.mark.parametrize("streams", [1, 3])
def test_every_document_is_on_one_side(corpus: Path, streams: int) -> None:
    config = config_of(corpus, streams=streams)
    held_out = {(0, document.record) for document in documents(config, hold_out=FRACTION)}
    trained_on = records_trained_on(config, 300)
    assert not held_out & trained_on
    assert held_out | trained_on == {(0, document.record) for document in documents(config)}
    assert 0.1 < len(held_out) / 120 < 0.4


def test_more_held_out_holds_out_the_same_and_others(corpus: Path) -> None:
    less, more = (
        {document.data for document in documents(config_of(corpus), hold_out=fraction)} for fraction in (0.1, 0.5)
    )
    assert less < more


def test_a_text_is_on_one_side_wherever_it_stands(tmp_path: Path) -> None:
    """A copy in another file, in another order, does not bring held-out text into the training."""
    texts = random_texts(60)
    write_jsonl(tmp_path / "a.jsonl", texts)
    write_jsonl(tmp_path / "b.jsonl", texts[::-1])
    config = config_of(tmp_path / "*.jsonl")
    held_out = [document.data for document in documents(config, hold_out=FRACTION)]
    assert all(held_out.count(data) == 2 for data in held_out)


def test_of_a_large_document_all_parts_are_on_one_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hnet_lm.data.formats.plain.PART_BYTES", 64)
    text = "\n\n".join(random_texts(40, longest=500)).replace("\n\n\n", "\n")
    (tmp_path / "corpus.txt").write_text(text, encoding="utf-8")
    source = SourceConfig(str(tmp_path / "corpus.txt"), separator="\n\n")
    config = DataConfig((source,), tokens_per_batch=300, max_length=64, shuffle_bytes=1500)
    whole = {document.record: document.data for document in documents(config)}
    held_out = {document.record: document.data for document in documents(config, hold_out=FRACTION)}
    assert 0 < len(held_out) < len(whole)
    assert all(whole[record] == data for record, data in held_out.items())
    assert not {(0, record) for record in held_out} & records_trained_on(config, 200)


def test_a_resume_in_the_middle_of_a_document_stays_on_its_side(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "corpus.jsonl", random_texts(30, longest=3000))
    config = config_of(corpus)
    with DataLoader(config, hold_out=FRACTION) as whole:
        batches = list(itertools.islice(whole, 40))
    for stop in (1, 7, 23):
        with DataLoader(config, hold_out=FRACTION) as loader:
            list(itertools.islice(loader, stop))
            state = loader.state_dict()
        with DataLoader(config, hold_out=FRACTION) as resumed:
            resumed.load_state_dict(state)
            assert all(next(resumed).input_ids.equal(batch.input_ids) for batch in batches[stop:])


def test_another_fraction_is_another_order_of_the_data(corpus: Path) -> None:
    config = config_of(corpus)
    state = DataLoader(config, hold_out=FRACTION).state_dict()
    for fraction in (0.0, 0.5):
        with pytest.raises(DataError, match=r"validation\.hold_out changed since the run was saved"):
            DataLoader(config, hold_out=fraction).load_state_dict(state)


def test_dna_is_held_out_on_both_strands(tmp_path: Path) -> None:
    """The strand that is read is drawn anew in each epoch; a stretch must not be trained on from its other side."""
    records = ["".join(bases) for bases in itertools.product("ACGT", repeat=3)]
    fasta = "".join(f">r{i}\n{bases * 20}\n" for i, bases in enumerate(records))
    (tmp_path / "x.fa").write_text(fasta)
    source = SourceConfig(str(tmp_path / "x.fa"), fasta=FastaConfig(reverse_complement=True))
    config = DataConfig((source,), tokens_per_batch=300, max_length=64, shuffle_bytes=1500)
    held_out = {(0, document.record) for document in documents(config, hold_out=FRACTION)}
    assert 0 < len(held_out) < len(records)
    assert not held_out & records_trained_on(config, 100)


@pytest.mark.parametrize("bases", [b"ACGU" * 5, b"acgtN" * 4, b"ACGT" * 3 + b"G"])
def test_the_two_strands_are_on_one_side(bases: bytes) -> None:
    for percent in range(1, 100):
        split = Split(percent / 100, is_held_out=True)
        sides = {split.takes(strand, has_two_strands=True) for strand in (bases, reverse_complement(bases))}
        assert len(sides) == 1
