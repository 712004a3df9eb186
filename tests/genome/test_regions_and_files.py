"""Names of regions, records that are stretches, BED in its several widths, and the tracks that are written."""

from pathlib import Path

import numpy as np
import pytest

from hnet_lm.errors import DataError
from hnet_lm.genome import BedInterval, Region, bed_lines, bedgraph_lines, parse_region, read_bed, read_records, stretch
from hnet_lm.genome.reference import Reference

FASTA = ">chr20:59,000,001-59,000,010 a stretch\nacgtNACGTA\n>HLA-A*01:1-3\nACGTAC\n>chrM\nGGGTTT\n>chrM:101-103\nCCC\n"


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text(FASTA)
    return path


def test_names_of_regions() -> None:
    assert parse_region("chr20:59,000,001-59,100,000") == ("chr20", 59_000_000, 59_100_000)
    assert parse_region("HLA:A:1-1") == ("HLA:A", 0, 1)
    assert parse_region("chr20") is None
    assert parse_region("chr20:5") is None
    for wrong in ("chr1:0-5", "chr1:9-5", "chr1:,-5", "chr1:1-9999999999999999"):
        with pytest.raises(DataError, match="no region; write NAME:START-END"):
            parse_region(wrong)


def test_records_that_are_stretches_and_records_that_only_look_so(fasta: Path) -> None:
    found = list(read_records(fasta))
    assert found == [
        Region("chr20", 59_000_000, b"ACGTNACGTA"),
        Region("HLA-A*01:1-3", 0, b"ACGTAC"),
        Region("chrM", 0, b"GGGTTT"),
        Region("chrM", 100, b"CCC"),
    ]
    assert found[0].name == "chr20:59,000,001-59,000,010"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("chr20:59,000,003-59,000,006", Region("chr20", 59_000_002, b"GTNA")),
        ("chr20:59000001-59000010", Region("chr20", 59_000_000, b"ACGTNACGTA")),
        ("chr20", Region("chr20", 59_000_000, b"ACGTNACGTA")),
        ("HLA-A*01:1-3", Region("HLA-A*01:1-3", 0, b"ACGTAC")),
        ("HLA-A*01:1-3:2-4", Region("HLA-A*01:1-3", 1, b"CGT")),
        ("chrM:102-103", Region("chrM", 101, b"CC")),
    ],
)
def test_a_region_by_name(fasta: Path, wanted: str, expected: Region) -> None:
    assert stretch(read_records(fasta), wanted, fasta) == expected


def test_records_behind_the_wanted_one_are_not_read(fasta: Path) -> None:
    fasta.write_text(FASTA + ">broken\nACGT5\n")
    assert stretch(read_records(fasta), "chrM", fasta).bases == b"GGGTTT"
    with pytest.raises(DataError, match="line 10: '5' is not a nucleotide code"):
        Reference.read(fasta)


def test_what_is_there_instead_is_said(fasta: Path) -> None:
    with pytest.raises(DataError, match=r"^20:1-5: is not in .*genome.fa, which has .*; it has 'chr20', so rename one"):
        stretch(read_records(fasta), "20:1-5", fasta)
    with pytest.raises(DataError, match=r"which has chrM:1-6, chrM:101-103, chr20:59000001-59000010, \.\.\.$"):
        stretch(read_records(fasta), "chrM:5-9", fasta)


BED = """track name=x
chr1\t10\t20\tgene one\t0\t-
chr1\t10\t30
chr1\t100\t200\ttx\t0\t+\t120\t180\t0\t3\t10,30,20,\t0,40,80,
chr1\t100\t200\tnoncoding\t0\t+\t100\t100
"""


def test_bed_with_three_six_eight_and_twelve_columns(tmp_path: Path) -> None:
    path = tmp_path / "genes.bed"
    path.write_text(BED)
    assert list(read_bed(path)) == [
        BedInterval("chr1", 10, 20, "gene one", "-", ((10, 20),), 2),
        BedInterval("chr1", 10, 30, "", ".", ((10, 30),), 3),
        BedInterval("chr1", 100, 200, "tx", "+", ((140, 170),), 4),
        BedInterval("chr1", 100, 200, "noncoding", "+", (), 5),
    ]
    assert next(read_bed(path)).moved(-10).coding == ((0, 10),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t9\t5", "line 1: the interval ends at 5, before its start 9"),
        ("chr1\t1\t5\tx\t0\t+\t1\tfive", "line 1: not BED; 'five' is not a position"),
        ("chr1\t1\t5\tx\t0\t+\t1\t5\t0\t2\t1,1\t0", "line 1: has 2 block sizes and 1 block starts"),
    ],
)
def test_wrong_bed_names_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "genes.bed"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        list(read_bed(path))


def test_tracks() -> None:
    lines = list(bedgraph_lines("chr2", np.array([0, 3]), np.array([0.25, 1.0]), origin=100))
    assert lines == ["chr2\t100\t101\t0.25\n", "chr2\t103\t104\t1\n"]
    lines = list(bed_lines("chr2", [(0, 5, "stage1", 0.5), (0, 2, "stage0", 0.0814)], "chunks", 100))
    assert lines[0].startswith('track name="chunks"')
    assert lines[1:] == ["chr2\t100\t102\tstage0\t81\t.\n", "chr2\t100\t105\tstage1\t500\t.\n"]
