"""Intervals in BED: some that meet the text, with edges inside it, or a refusal."""

from refusals import file_of, read_or_refused

from hnet_lm.inspect.place import edges, read_annotations

SEEDS = (
    b"track name=x\nchr1\t0\t5\tgene\t0\t-\nchr2\t3\t9\n#comment\nbrowser position\n",
    b"\xef\xbb\xbfchr1 7 9\r\nchr1\t9\t7\n",
    b"chr1\t-1\tx\n",
    b"chr1\t10\t99\tg\t0\t-\t20\t80\t0\t2\t30,20,\t0,69,\n",
)


def check(data: bytes) -> None:
    path = file_of(data, "a.bed")
    for sequence in (None, "chr1"):
        found = read_or_refused(lambda sequence=sequence: read_annotations(path, sequence, 1000, 2))
        if found is not None:
            assert all(interval.start <= interval.end and interval.start < 1000 for interval in found)
            assert all(a < b for interval in found for a, b in interval.coding)
            assert all(0 <= offset < 1000 for offset in edges(found, 1000))
