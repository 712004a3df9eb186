import gzip
import math
from pathlib import Path

import pytest

from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.errors import ConfigError, DataError
from hnet_lm.evaluation import ByteScorer, CarriedState, Passage, bits_per_byte
from hnet_lm.evaluation.dna import (
    BothStrands,
    Reference,
    Region,
    VariantFile,
    reverse_complement,
    score_variants,
    score_windows,
)
from hnet_lm.model import HNetLM

BASES = b"ACGGATTACAGGCTTAAGCCTGACTTTAGGACCATNNGATACCA"
FASTA = b""">chr1 whole
ACGGATTACAGGCTTAAGCC
TGACTTTAGGACCATNNGATacca

>chr2:101-110 GRCh37
AAAATTTTGG
>odd:1-3
ACGTA
"""


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "reference.fa.gz"
    path.write_bytes(gzip.compress(FASTA))
    return path


def logprob(model: HNetLM, bases: bytes) -> float:
    return next(ByteScorer(model).score([Passage(bases)])).logprob


def strand_mean(model: HNetLM, bases: bytes) -> float:
    return (logprob(model, bases) + logprob(model, reverse_complement(bases))) / 2


def test_reverse_complement() -> None:
    assert reverse_complement(b"AACGTNacgt") == b"acgtNACGTT"
    assert reverse_complement(reverse_complement(BASES)) == BASES


def test_both_strands_are_the_mean_and_do_not_care_which_comes_first(model: HNetLM) -> None:
    scorer = BothStrands(ByteScorer(model, CarriedState(5), call_bytes=40))
    there, back, other = scorer.score([Passage(b) for b in (BASES, reverse_complement(BASES), b"ACG")])
    assert there.logprob == pytest.approx(strand_mean(model, BASES))
    assert there.logprob == pytest.approx(back.logprob)
    assert other.num_bytes == 3
    with pytest.raises(ValueError, match="prompt"):
        list(scorer.score([Passage(b"ACG", b"T")]))


def test_perplexity_per_base_of_a_fasta_file(model: HNetLM, fasta: Path) -> None:
    texts = [document.data for document in documents(DataConfig(sources=(SourceConfig(str(fasta)),)))]
    found = bits_per_byte(BothStrands(ByteScorer(model)), {"dna": texts})
    nats = -sum(strand_mean(model, text) for text in texts)
    assert 2**found.value == pytest.approx(math.exp(nats / sum(map(len, texts))))
    assert found.num_bytes == 44 - 2 + 10 + 5  # the run of N is left out


def test_reference_by_position(fasta: Path) -> None:
    reference = Reference.read(fasta)
    stretch = Region("chr2", 100, b"AAAATTTTGG")
    assert list(reference) == [Region("chr1", 0, BASES), stretch, Region("odd:1-3", 0, b"ACGTA")]
    assert reference.region("chr2", 100, 110) == stretch
    for outside in [("chr2", 99, 101), ("chr2", 105, 111), ("X", 0, 1)]:
        assert reference.region(*outside) is None


VCF = """##fileformat=VCFv4.2
#CHROM\tPOS\tID\tREF\tALT\tQUAL
chr1\t5\trs1\tA\tG,T\t.
chr2\t104\t.\tATT\tA\t.
chr2\t105\t.\tT\t<DEL>,*\t.
"""


def test_variants_equal_whole_sequences_with_the_change_in_place(model: HNetLM, fasta: Path, tmp_path: Path) -> None:
    path = tmp_path / "variants.vcf"
    path.write_text(VCF)
    file = VariantFile(path)
    reference = Reference.read(fasta)
    scorer = BothStrands(ByteScorer(model))
    first, second, deletion = score_variants(scorer, reference, file)
    assert file.num_symbolic == 2
    assert first.log_ratio == pytest.approx(strand_mean(model, b"ACGGGTTAC" + BASES[9:]) - strand_mean(model, BASES))
    assert second.alternative_logprob == pytest.approx(strand_mean(model, b"ACGGTTTAC" + BASES[9:]))
    assert deletion.log_ratio == pytest.approx(strand_mean(model, b"AAAATTGG") - strand_mean(model, b"AAAATTTTGG"))
    (near, *_) = score_variants(ByteScorer(model), reference, file, flank=2)
    assert near.log_ratio == pytest.approx(logprob(model, b"GGGTT") - logprob(model, b"GGATT"))


def test_variants_in_a_table(fasta: Path, tmp_path: Path) -> None:
    path = tmp_path / "variants.tsv"
    path.write_text("name\tAlt\tref\tpos\tchrom\nx\tg\ta\t5\tchr1\n")
    (variant,) = VariantFile(path)
    assert (variant.sequence, variant.position, variant.reference, variant.alternative) == ("chr1", 5, "A", "G")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("chr1\t5\t.\tC\tG", "line 2, chr1:5: the reference has A there, the variant says C; are they of the same"),
        ("chr9\t5\t.\tC\tG", "is not in the reference, which has chr1:1-44, chr2:101-110, odd:1-3:1-5$"),
        ("chr1\t0\t.\tC\tG", "line 2: the position must be a whole number from 1, got '0'"),
        ("chr1\t5\t.\tC", "line 2: has 4 columns"),
        ("chr1\t5\t.\t<X>\tG", "line 2: the reference allele must be bases"),
    ],
)
def test_mistakes_in_variants(model: HNetLM, fasta: Path, tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "variants.vcf"
    path.write_text(f"#CHROM\tPOS\tID\tREF\tALT\n{line}\n")
    with pytest.raises(DataError, match=complaint):
        list(score_variants(ByteScorer(model), Reference.read(fasta), VariantFile(path)))


def test_mistakes_in_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("chr1 5 A G\n")
    with pytest.raises(DataError, match="first line must name the columns"):
        list(VariantFile(path))
    with pytest.raises(DataError, match="line 1: not FASTA"):
        Reference.read(path)
    path.write_text(">\nACG\n")
    with pytest.raises(DataError, match="line 1: a record without a name"):
        Reference.read(path)
    path.write_text("")
    with pytest.raises(DataError, match="no FASTA record"):
        Reference.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        list(VariantFile(tmp_path / "missing.vcf"))


def test_windows(model: HNetLM) -> None:
    reference = Reference([Region("chr1", 50, BASES[:30]), Region("chr2", 0, b"ACGT"), Region("empty", 0, b"")])
    found = list(score_windows(ByteScorer(model), reference, window=12, stride=6))
    places = [(w.sequence, w.start, w.end) for w in found]
    assert places == [("chr1", 50, 62), ("chr1", 56, 68), ("chr1", 62, 74), ("chr1", 68, 80), ("chr2", 0, 4)]
    text = BASES[:30] + b"ACGT"
    background = sum(math.log(text.count(base) / 34) for base in BASES[6:18])
    assert found[1].log_ratio == pytest.approx(logprob(model, BASES[6:18]) - background)
    assert found[1].log_ratio_per_base == pytest.approx(found[1].log_ratio / 12)
    with pytest.raises(ConfigError, match="must be a whole number, 1 or more"):
        score_windows(ByteScorer(model), reference, window=0, stride=1)
