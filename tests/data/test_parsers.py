"""Every parser of data, given bytes that nobody wrote on purpose: documents, or DataError in one line."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer

from hnet_lm.data import DataConfig, DataLoader, FastaConfig, SourceConfig, documents
from hnet_lm.data.byte_pairs import BytePairs, train_byte_pairs
from hnet_lm.errors import DataError
from mutated import mutated
from thoroughness import examples


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["one", "two", None], "id": [1, 2, 3]}), file)
    return file.getvalue()


VALID: dict[str, tuple[bytes, dict[str, Any]]] = {
    "jsonl": (b'\xef\xbb\xbf{"text": "one"}\n\n{"id": 1, "text": "\\u4e2d\xe2\x80\xa8"}\n', {}),
    "text": (b"one<|>two<|><|>three", {"separator": "<|>"}),
    "bytes": (bytes(range(256)), {}),
    "fasta": (b"\xef\xbb\xbf>one\nACGTNNacgt\r\n\nAC GT\n>two\nNN\n", {}),
    "fasta in windows": (b">one\nACGTNNacgtRYK\n" * 3, {"fasta": FastaConfig(n_runs="drop", window=3)}),
    "parquet": (parquet(), {}),
}


@pytest.mark.scaled
@pytest.mark.parametrize("name", VALID)
def test_any_bytes_are_documents_or_errors_in_one_line(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    valid, options = VALID[name]
    source = SourceConfig(str(tmp_path_factory.mktemp("fuzz") / "file"), format=name.split()[0], **options)  # pyright: ignore[reportArgumentType]  names

    @settings(max_examples=examples(30), deadline=None, database=None)
    @given(mutated(valid))
    def check(data: bytes) -> None:
        Path(source.path).write_bytes(data)
        kept = [document.data for document in documents(DataConfig((source,), on_error="skip"))]
        try:
            assert [document.data for document in documents(DataConfig((source,)))] == kept
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both ends are right
            assert source.path in str(error)  # noqa: PT017

    check()


@pytest.mark.scaled
@pytest.mark.parametrize("name", [name for name in VALID if name != "parquet"])
def test_loaders_stop_and_go_on_in_any_bytes(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    valid, options = VALID[name]
    source = SourceConfig(str(tmp_path_factory.mktemp("fuzz") / "file"), format=name.split()[0], **options)  # pyright: ignore[reportArgumentType]  names
    config = DataConfig((source,), tokens_per_batch=7, max_length=5, shuffle_bytes=14, on_error="skip")

    @settings(max_examples=examples(12), deadline=None, database=None)
    @given(mutated(valid))
    def check(data: bytes) -> None:
        Path(source.path).write_bytes(data)
        loader, resumed = DataLoader(config, vocab_size=258), DataLoader(config, vocab_size=258)
        for _ in range(4):
            try:
                batch = next(loader)
            except DataError:
                return
            assert next(resumed).targets.equal(batch.targets)
            resumed = DataLoader(config, vocab_size=258)
            resumed.load_state_dict(loader.state_dict())

    check()


SPOIL: dict[str, Callable[[str], str]] = {
    "cut off": lambda text: text[: len(text) // 2],
    "no model": lambda text: text.replace('"model"', '"models"'),
    "a list": lambda text: "[]",
    "a merge of nothing": lambda text: text.replace('"merges":[', '"merges":[["no","thing"],'),
    "nested": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("kind", SPOIL)
def test_spoilt_tokenizers(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    train_byte_pairs([b"the cat sat on the mat"] * 9, 262, path)
    path.write_text(SPOIL[kind](Tokenizer.from_file(str(path)).to_str()))
    with pytest.raises(DataError, match=r"tokenizer.json: not a tokenizer.json"):
        BytePairs(path)
