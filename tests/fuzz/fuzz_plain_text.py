"""Text with a separator, and files of any bytes."""

from documents_twice import check_documents, source_of
from refusals import file_of

SEEDS = (b"one<|>two<|><|>three", b"<|>", bytes(range(256)), b"\xef\xbb\xbfmarked<|")


def check(data: bytes) -> None:
    check_documents(source_of(file_of(data, "a.txt"), format="text", separator="<|>"))
    check_documents(source_of(file_of(data, "a.txt"), format="bytes"))
