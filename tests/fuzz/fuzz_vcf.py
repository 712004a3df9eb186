"""Variants in VCF or a table: every line is variants or a report of one line."""

from refusals import assert_one_line, file_of, read_or_refused

from hnet_lm.evaluation.dna import VariantFile

SEEDS = (
    b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\nchr1\t5\t.\tA\tG,<DEL>,*\t9\nchr1\t0\t.\tA\tG\t9\n",
    b"\xef\xbb\xbfalt\tref\tpos\tchrom\nACG\tT\t17\tx\n\nT\tQ\t1\tx\n",
    b"chrom,pos,ref,alt\nchr1,1,A,C\n",
)


def check(data: bytes) -> None:
    path = file_of(data, "a.vcf")
    reports = []
    found = read_or_refused(lambda: list(VariantFile(path, reports.append)))
    for report in reports:
        assert_one_line(str(report))
    for variant in found or ():
        assert variant.position >= 1
        assert variant.line >= 2
        assert variant.reference
        assert variant.alternative
        assert variant.identifier
        assert variant.allele >= 0
