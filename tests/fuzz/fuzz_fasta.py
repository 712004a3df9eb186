"""FASTA, as data and as a reference genome."""

from documents_twice import check_documents, source_of
from refusals import file_of, read_or_refused

from hnet_lm.data import FastaConfig
from hnet_lm.evaluation.dna import Reference

SEEDS = (
    b"\xef\xbb\xbf>one\nACGTNNacgt\r\n\nAC GT\n>two\nNN\n",
    b">chr1:11-20\nACGTACGTAC\n>x\nRYSWKMBDHV\n",
    b"ACGT\n>late\nAC",
)
OPTIONS = (FastaConfig(), FastaConfig(n_runs="keep", window=3, reverse_complement=True), FastaConfig(n_runs="drop"))


def check(data: bytes) -> None:
    path = file_of(data, "a.fa")
    for options in OPTIONS:
        check_documents(source_of(path, format="fasta", fasta=options))
    reference = read_or_refused(lambda: Reference.read(path))
    for region in reference or ():
        assert reference is not None
        assert reference.region(region.sequence, region.start, region.end) is not None
