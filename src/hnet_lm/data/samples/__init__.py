"""The bundled samples: small corpora in four modalities, split by document. README.md names sources and licences."""

from pathlib import Path

from hnet_lm.errors import DataError

SAMPLE_PREFIX = "sample:"
SPLITS = ("train", "validation")
_SUFFIX = {"english": ".jsonl.xz", "chinese": ".jsonl.xz", "code": ".jsonl.xz", "dna": ".fa.xz"}

# The documents that no training part holds: ids of JSONL records, first words of FASTA headers.
HELD_OUT = {
    "english": ("twain-the-gilded-age-part-3",),
    "chinese": ("dongyou-ji-1", "dongyou-ji-2"),
    "code": (
        "networkx/algorithms/tree/mst.py",
        "networkx/algorithms/vitality.py",
        "networkx/algorithms/connectivity/disjoint_paths.py",
        "networkx/algorithms/shortest_paths/unweighted.py",
        "networkx/algorithms/minors/contraction.py",
    ),
    "dna": ("chr20:10900001-11000000",),
}


def sample_path(name: str, split: str) -> str:
    """The file of a sample's split. Raises DataError for a name or split that does not exist."""
    if name not in _SUFFIX:
        raise DataError(f"sample:{name} does not exist; there are {', '.join(f'sample:{known}' for known in _SUFFIX)}")
    if split not in SPLITS:
        raise DataError(f"sample:{name} has no split {split!r}; it has {' and '.join(SPLITS)}")
    return str(Path(__file__).parent / f"{name}-{split}{_SUFFIX[name]}")
