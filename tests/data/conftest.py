"""A corpus of several files in a temporary directory; the library as users run it, without the tests' type checks."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from data_corpora import random_texts, write_jsonl


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three JSONL files, one of them compressed."""
    for number in range(3):
        path = write_jsonl(tmp_path / f"part{number}.jsonl", random_texts(40, seed=number))
    (tmp_path / "part2.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return tmp_path


@pytest.fixture
def without_type_checks() -> Iterator[None]:
    """For values of wrong types, which the library itself must refuse, and for measurements."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
