"""Parquet files: pyarrow reads them; what it raises becomes a refusal."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
from documents_twice import check_documents, source_of
from refusals import file_of


def _file(column: pa.Array, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": column}), file, **options)
    return file.getvalue()


SEEDS = (
    _file(pa.array(["one", "two", None])),
    _file(pa.array([b"\xff", b"", b"three"] * 9), compression="gzip", row_group_size=4),
    _file(pa.array(["a", "b", "a"]).dictionary_encode(), compression="none", write_statistics=False),
)


def check(data: bytes) -> None:
    check_documents(source_of(file_of(data, "a.parquet"), format="parquet"))
