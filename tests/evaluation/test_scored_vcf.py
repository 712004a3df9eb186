"""A scored VCF is the VCF that was given, with the scores in INFO, and is written as the scores come."""

from pathlib import Path

import pytest

from hnet_lm.data.error_report import ErrorReport
from hnet_lm.errors import DataError
from hnet_lm.evaluation import Passage, PassageScore
from hnet_lm.evaluation.dna import Reference, Region, ScoredVcf, VariantFile, score_variants

REFERENCE = Reference([Region("chr1", 0, b"ACGGATTACAGG")])
HEADER = b'##fileformat=VCFv4.2\n##INFO=<ID=AF,Number=A,Type=Float,Description="x">\n'
COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\n"
LINES = [
    b"chr1\t5\trs1\tA\tG,<DEL>,TT\t9\tPASS\tAF=0.1,0.2,0.3;DB\tGT\t0/1",
    b"chr9\t5\trs2\tA\tG\t.\t.\tDB\tGT\t0/1",
    b"chr1\t1\t.\tA\tC\t.\t.\t.\tGT\t1/1",
    b"chr1\t2\tcaf\xe9\tC\t<INS>\t.\t.\tNOTE=caf\xe9\tGT\t./.",
]


class Lengths:
    def __init__(self) -> None:
        self.num_taken = 0

    def score(self, passages):
        for passage in passages:
            self.num_taken += 1
            assert isinstance(passage, Passage)
            yield PassageScore(-float(len(passage.data)), len(passage.data), 0.0, False)


def scored(path: Path) -> bytes:
    written: list[str] = []
    vcf = ScoredVcf(str(path), written.append)
    skip = ErrorReport("skip", lambda line: None)
    for score in score_variants(Lengths(), REFERENCE, VariantFile(path, skip, vcf.on_line), flank=2, report=skip):
        vcf.add(score)
    vcf.finish()
    return "".join(written).encode("utf-8", "surrogateescape")


def test_everything_stays_and_the_scores_are_added(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf"
    path.write_bytes(HEADER + COLUMNS + b"\n".join(LINES) + b"\n")
    out = scored(path)
    head, body = out.split(COLUMNS)
    lines = head.splitlines()
    assert lines[:2] == HEADER.splitlines()
    assert lines[2].startswith(b'##INFO=<ID=HNET_LLR,Number=A,Type=Float,Description="log p(alternative)')
    assert lines[3].startswith(b'##INFO=<ID=HNET_LOGPROB,Number=R,Type=Float,Description="')
    first, second, third, fourth = body.splitlines()
    scores = b";HNET_LLR=0.000000,.,-1.000000;HNET_LOGPROB=-5.000000,-5.000000,.,-6.000000"
    assert first == LINES[0].replace(b";DB", b";DB" + scores)
    assert second == LINES[1]
    assert third == LINES[2].replace(b".\t.\t.\tGT", b".\t.\tHNET_LLR=0.000000;HNET_LOGPROB=-3.000000,-3.000000\tGT")
    assert fourth == LINES[3]
    path.write_bytes(out)
    assert scored(path) == out  # scored again: the old scores are replaced, and their header lines too


def test_lines_are_written_as_soon_as_their_scores_are_known(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf"
    path.write_bytes(HEADER + COLUMNS + (LINES[2] + b"\n") * 500)
    written: list[str] = []
    vcf = ScoredVcf(str(path), written.append)
    file = VariantFile(path, on_line=vcf.on_line)
    held = []
    for score in score_variants(Lengths(), REFERENCE, file, flank=2):
        vcf.add(score)
        held.append(len(vcf._records))
    assert max(held) <= 2
    assert len(written) == 4 + 499
    vcf.finish()
    assert len(written) == 4 + 500


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (COLUMNS, "line 1: a VCF begins with ##fileformat"),
        (HEADER + b"#CHROM\tPOS\tID\tREF\tALT\n", "line 3: not the header of a VCF"),
    ],
)
def test_a_file_that_is_no_whole_vcf_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "in.vcf"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        scored(path)
