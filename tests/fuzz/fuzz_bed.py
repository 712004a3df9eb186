"""Intervals in BED: offsets inside the text, or a refusal."""

from refusals import file_of, read_or_refused

from hnet_lm.inspect.references import bed_offsets

SEEDS = (
    b"track name=x\nchr1\t0\t5\tgene\nchr2\t3\t9\n#comment\nbrowser position\n",
    b"\xef\xbb\xbfchr1 7 9\r\nchr1\t9\t7\n",
    b"chr1\t-1\tx\n",
)


def check(data: bytes) -> None:
    path = file_of(data, "a.bed")
    for sequence in (None, "chr1"):
        offsets = read_or_refused(lambda sequence=sequence: bed_offsets(path, sequence, 1000, 2))
        assert offsets is None or all(0 <= offset <= 1000 for offset in offsets)
