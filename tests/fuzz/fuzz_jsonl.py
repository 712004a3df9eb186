"""JSON lines: documents, or refusals that name the line."""

from documents_twice import check_documents, source_of
from refusals import file_of

SEEDS = (
    b'\xef\xbb\xbf{"text": "one"}\n\n{"id": 1, "text": "\\u4e2d\xe2\x80\xa8"}\r\n',
    b'{"text": ""}\n{"text": "\\ud800"}\n[1]\n{"text": 3}\n{"text": "last"}',
    b'{"text": "a\\u0000b", "text": "twice"}\n',
)


def check(data: bytes) -> None:
    check_documents(source_of(file_of(data, "a.jsonl"), format="jsonl"))
