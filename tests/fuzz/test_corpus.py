"""Every input of the fuzzers' corpus, among them those that once failed, and the seeds, through their harness."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_corpus(name: str) -> None:
    harness = importlib.import_module(f"fuzz_{name}")
    inputs = [path.read_bytes() for path in sorted((FOLDER / "corpus" / name).glob("*"))]
    assert harness.SEEDS
    for data in (*harness.SEEDS, *inputs):
        harness.check(data)


def test_every_folder_of_the_corpus_has_its_harness() -> None:
    assert {path.name for path in (FOLDER / "corpus").iterdir()} <= set(NAMES)
