"""The bundled samples: four modalities, held out by document, small."""

import itertools
import json
import lzma
from pathlib import Path

import pytest

from hnet_lm.data import DataConfig, DataLoader, SourceConfig, documents, samples
from hnet_lm.errors import DataError

SIZES = {
    "english": (1_856_073, 117_532),
    "chinese": (866_248, 115_477),
    "code": (705_902, 108_514),
    "dna": (900_000, 100_000),
}


def texts(name: str, split: str) -> list[bytes]:
    return [item.data for item in documents(DataConfig((SourceConfig(f"sample:{name}", split=split),)))]


def ids(name: str, split: str) -> list[str]:
    content = lzma.decompress(Path(samples.sample_path(name, split)).read_bytes()).decode()
    if name == "dna":
        return [line.split()[0][1:] for line in content.splitlines() if line.startswith(">")]
    return [json.loads(line)["id"] for line in content.splitlines()]


@pytest.mark.parametrize("name", samples.HELD_OUT)
def test_held_out_documents_are_those_of_the_table_and_in_no_training_part(name: str) -> None:
    assert tuple(ids(name, "validation")) == samples.HELD_OUT[name]
    assert not set(ids(name, "train")) & set(samples.HELD_OUT[name])
    train, held_out = texts(name, "train"), texts(name, "validation")
    assert (sum(map(len, train)), sum(map(len, held_out))) == SIZES[name]
    joined = b"\n".join(train)
    for text in held_out:
        assert text[len(text) // 2 :][:200] not in joined


def test_all_samples_are_utf8_and_dna_is_four_letters() -> None:
    for name, split in itertools.product(samples.HELD_OUT, samples.SPLITS):
        for text in texts(name, split):
            assert text.decode()
    assert set(b"".join(texts("dna", "train"))) == set(b"ACGT")


def test_samples_are_small() -> None:
    assert sum(path.stat().st_size for path in Path(samples.__file__).parent.glob("*.xz")) < 4_000_000


@pytest.mark.parametrize("name", samples.HELD_OUT)
def test_a_sample_trains(name: str) -> None:
    batch = next(DataLoader(DataConfig((SourceConfig(f"sample:{name}"),))))
    assert batch.input_ids.shape == (8192,)


def test_a_split_that_does_not_exist() -> None:
    with pytest.raises(DataError, match=r"sample:english has no split 'test'; it has train and validation"):
        texts("english", "test")
