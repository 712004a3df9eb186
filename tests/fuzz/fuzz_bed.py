"""Intervals in BED: each within its own ends, or a refusal."""

from refusals import file_of, read_or_refused

from hnet_lm.genome import read_bed

SEEDS = (
    b"track name=x\nchr1\t0\t5\tgene\t0\t-\nchr2\t3\t9\n#comment\nbrowser position\n",
    b"\xef\xbb\xbfchr1 7 9\r\nchr1\t9\t7\n",
    b"chr1\t-1\tx\n",
    b"chr1\t10\t90\tcds\t0\t+\t20\t80\t0\t2\t15,20,\t0,60,\n",
)


def check(data: bytes) -> None:
    path = file_of(data, "a.bed")
    for interval in read_or_refused(lambda: list(read_bed(path))) or ():
        assert 0 <= interval.start <= interval.end
        assert interval.line >= 1
        for first, last in interval.coding:
            assert interval.start <= first <= last <= interval.end
        assert interval.moved(5).moved(-5) == interval
