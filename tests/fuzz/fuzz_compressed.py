"""Compressed inputs of any kind: the bytes, or a refusal; what stands before a damage is read all the same."""

import bz2
import gzip
import lzma

import zstandard
from refusals import file_of, read_or_refused

from hnet_lm.inputs import opened, read_lines

SEEDS = (
    gzip.compress(b"one\ntwo\n") + gzip.compress(b"three"),
    bz2.compress(b"one\ntwo\n"),
    lzma.compress(b"one\ntwo\n"),
    zstandard.ZstdCompressor().compress(b"one\ntwo\n"),
    b"\xff\xfeU\x00T\x00F\x00",
    b"BZh9 is no bzip2",
)
LIMIT = 1 << 22  # of what comes out: a few bytes may stand for any number of zeros


def check(data: bytes) -> None:
    path = file_of(data, "input")

    def read() -> bytes:
        with opened(path) as stream:
            return stream.read(LIMIT)

    content = read_or_refused(read)
    if content is None or len(content) < LIMIT:
        read_or_refused(lambda: read_lines(path))
