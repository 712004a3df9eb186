"""The IUPAC nucleotide codes, and the other strand."""

NUCLEOTIDE_CODES = b"ACGTUNRYSWKMBDHVacgtunryswkmbdhv"
COMPLEMENT = bytes.maketrans(NUCLEOTIDE_CODES, b"TGCAANYRSWMKVHDBtgcaanyrswmkvhdb")


def reverse_complement(bases: bytes) -> bytes:
    """The other strand, read in its own direction."""
    return bases[::-1].translate(COMPLEMENT)
