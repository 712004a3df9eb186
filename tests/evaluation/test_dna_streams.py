"""DNA as the field writes it: variants as a stream of any length, one bad record among good ones, any compression."""

import gzip
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from hnet_lm.data.error_report import ErrorReport
from hnet_lm.errors import DataError
from hnet_lm.evaluation import Passage, PassageScore
from hnet_lm.evaluation.dna import Reference, Region, VariantFile, score_variants, score_windows
from hnet_lm.inspect.place import edges, read_annotations
from mutated import mutated
from thoroughness import examples

BASES = b"ACGGATTACAGGCTTAAGCCTGACTTTAGGACCATNNGATACCA"
FASTA = b">chr1 whole\n" + BASES + b"\n>chr2:101-110 part\nAAAA\nttttgg\n"
VCF = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\nchr1\t5\trs1\tA\tG,T\t.\nchr2\t104\t.\tATT\tA\t.\n"


class Lengths:
    """A scorer that knows nothing but lengths, and works on up to four passages at once."""

    def __init__(self) -> None:
        self.num_taken = 0

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        waiting = []
        for passage in passages:
            self.num_taken += 1
            waiting.append(PassageScore(-float(len(passage.data)), len(passage.data), 0.0, False))
            if len(waiting) == 4:
                yield from waiting
                waiting.clear()
        yield from waiting


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    path = tmp_path / "reference.fa"
    path.write_bytes(FASTA)
    return Reference.read(path)


GOOD = [("chr1", 5, "G"), ("chr1", 5, "T"), ("chr2", 104, "A")]
BAD = {
    "a contig that is not there": (b"chrUn_KI270742v1\t10\t.\tA\tC", r"chrUn_KI270742v1:10: is not in the reference"),
    "the other name": (b"1\t5\t.\tA\tG", r"1:5: is not in the reference, .*; it has 'chr1', so rename one of them"),
    "beyond the end": (b"chr1\t5000\t.\tA\tC", r"line 5, chr1:5000: is not in the reference"),
    "another base": (b"chr1\t5\t.\tC\tG", r"line 5, chr1:5: the reference has A there, the variant says C"),
    "a telomere": (b"chr1\t0\t.\tN\tC", r"line 5: the position must be a whole number from 1, got '0'"),
    "digits of another script": ("chr1\t٥\t.\tA\tC".encode(), r"position must be a whole number"),
    "a number of thousands of digits": (b"chr1\t" + b"1" * 5000 + b"\t.\tA\tC", r"got '1{20}'$"),
    "too few columns": (b"chr1\t5\t.", r"line 5: has 4 columns"),
    "no bases": (b"chr1\t5\t.\t<X>\tG", r"line 5: the reference allele must be bases"),
    "bytes": (b"\xff\xfe\x00\t5\t.\tA\tC", r"is not in the reference"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_variant_never_ends_all(kind: str, reference: Reference, tmp_path: Path) -> None:
    line, message = BAD[kind]
    path = tmp_path / "variants.vcf"
    path.write_bytes(VCF + line + b"\t.\n# a comment between records\n\n" + VCF.splitlines()[2] + b"\n")
    said: list[str] = []
    skip = ErrorReport("skip", said.append)
    found = list(score_variants(Lengths(), reference, VariantFile(path, skip), report=skip))
    places = [(s.variant.sequence, s.variant.position, s.variant.alternative) for s in found]
    assert places == [*GOOD, *GOOD[:2]]
    assert skip.num_skipped == 1
    with pytest.raises(DataError, match=message) as raised:
        list(score_variants(Lengths(), reference, VariantFile(path)))
    assert said == [f"skipped: {raised.value} (further ones are only counted)"]


@pytest.mark.parametrize("name", ["variants.vcf", "variants.vcf.gz", "variants.vcf.bgz", "variants"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_files_of_any_name_compression_and_mark(name: str, mark: bytes, tmp_path: Path) -> None:
    for data, path in ((FASTA, tmp_path / "reference"), (VCF, tmp_path / name)):
        path.write_bytes(gzip.compress(mark + data) if name.endswith("gz") else mark + data.replace(b"\n", b"\r\n"))
    reference = Reference.read(tmp_path / "reference")
    assert list(reference) == [Region("chr1", 0, BASES), Region("chr2", 100, b"AAAATTTTGG")]
    found = score_variants(Lengths(), reference, VariantFile(tmp_path / name), flank=2)
    assert [(score.reference_logprob, score.alternative_logprob) for score in found] == [(-5, -5), (-5, -5), (-7, -5)]


def test_variants_are_read_and_scored_as_they_are_asked_for(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "variants.vcf"
    path.write_bytes(VCF + (VCF.splitlines()[2] + b"\n") * 2_000)
    scorer = Lengths()
    scores = score_variants(scorer, reference, VariantFile(path))
    next(scores)
    assert scorer.num_taken == 4
    tracemalloc.start()
    try:
        assert sum(1 for _ in scores) == 2 + 4_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()


def test_windows_are_scored_as_they_are_asked_for() -> None:
    reference = Reference([Region("chr1", 0, BASES * 1000)])
    scorer = Lengths()
    windows = score_windows(scorer, reference, window=10, stride=1)
    assert next(windows).end == 10
    assert scorer.num_taken == 4


def test_a_table_whose_first_lines_are_comments(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("# made by hand\n#\n#chrom\tpos\tref\talt\nchr1\t5\ta\tg\n# end\n")
    assert [(v.position, v.reference, v.line) for v in VariantFile(path)] == [(5, "A", 4)]
    path.write_text("# made by hand\nchrom pos ref alt\n")
    with pytest.raises(
        DataError, match=r"table.tsv, line 1: the first line must name the columns chrom, pos, ref, alt"
    ):
        list(VariantFile(path))


def test_a_reference_on_one_line_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "one_line.fa"
    num_bases = 12_000_000
    path.write_bytes(b">chr1" + b" long" * 400_000 + b"\n" + b"acgt" * (num_bases // 4) + b"\n>empty\n>last")
    tracemalloc.start()
    try:
        reference = Reference.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [(region.sequence, len(region.bases)) for region in reference] == [
        ("chr1", num_bases),
        ("empty", 0),
        ("last", 0),
    ]
    assert reference.regions["chr1"][0].bases[-5:] == b"TACGT"
    assert peak < 2.5 * num_bases + (6 << 20)


@pytest.mark.parametrize("name", ["genes.bed", "genes.bed.gz", "genes"])
def test_intervals_of_any_name_compression_and_mark(name: str, tmp_path: Path) -> None:
    data = "\ufeffchr1\t2\t5\tname \u2028 with a separator\nchr1\t7\t9\r\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert edges(read_annotations(tmp_path / name, "chr1", 20), 20).tolist() == [2, 5, 7, 9]


@settings(max_examples=examples(30), deadline=None, database=None)
@given(mutated(VCF))
def test_any_bytes_are_variants_or_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.vcf"
    path.write_bytes(data)
    reference = Reference([Region("chr1", 0, BASES)])
    skip = ErrorReport("skip", lambda line: None)
    try:
        list(score_variants(Lengths(), reference, VariantFile(path, skip), report=skip))
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017 - both ends are right


@settings(max_examples=examples(30), deadline=None, database=None)
@given(mutated(FASTA))
def test_any_bytes_are_a_reference_or_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.fa"
    path.write_bytes(data)
    try:
        assert list(Reference.read(path))
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017 - both ends are right


@settings(max_examples=examples(30), deadline=None, database=None)
@given(mutated(b"\xef\xbb\xbf#\nchr1\t5\t9\tx\nchr2 1 4\n"))
def test_any_bytes_are_intervals_or_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bed"
    path.write_bytes(data)
    try:
        assert all(0 <= offset < 20 for offset in edges(read_annotations(path, None, 20), 20).tolist())
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017 - both ends are right
