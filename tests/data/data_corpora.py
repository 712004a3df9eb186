"""Corpora for these tests, and what is compared between two loaders."""

import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import zstandard

from hnet_lm.data import Batch

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def random_texts(number: int, seed: int = 0, longest: int = 400) -> list[str]:
    """Texts of letters, none empty, of very different lengths."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("abcdefgh é中\n"), rng.integers(1, longest))) for _ in range(number)]


def write_jsonl(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def targets_by_document(batches: Sequence[Batch]) -> dict[tuple[int, ...], dict[int, int]]:
    """For each (source, epoch, file, record): the target at each place. Fails if a place is given twice."""
    found: dict[tuple[int, ...], dict[int, int]] = {}
    for batch in batches:
        begin = 0
        for length, (*document, offset) in zip(batch.sequences.host_lengths, batch.origin.tolist(), strict=True):
            places = found.setdefault(tuple(document), {})
            for place, target in enumerate(batch.targets[begin : begin + length].tolist(), start=offset):
                assert place not in places, f"target {place} of {document} came twice"
                places[place] = target
            begin += length
    return found


def is_same(left: Batch, right: Batch) -> bool:
    return (
        left.input_ids.equal(right.input_ids)
        and left.targets.equal(right.targets)
        and left.origin.equal(right.origin)
        and left.sequences.host_lengths == right.sequences.host_lengths
        and left.num_bytes == right.num_bytes
    )
