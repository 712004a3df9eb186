"""Which documents of a source are held out for validation, by a hash of each.

The hash is of the document's bytes (for a large one, of its first part). So a document is on the same side in every
epoch and every file, for any number of streams, workers and ranks, and whatever else the corpus contains.
"""

import hashlib
from typing import NamedTuple

from hnet_lm.genome.codes import reverse_complement

_HASH_BYTES = 8
_URACIL_AS_THYMINE = bytes.maketrans(b"Uu", b"Tt")


class Split(NamedTuple):
    """One side of a split: the documents that are held out, or all others."""

    fraction: float = 0.0
    """Approximate fraction of the documents that is held out."""
    is_held_out: bool = False

    def takes(self, beginning: bytes, *, has_two_strands: bool = False) -> bool:
        """Whether a document that begins like this is on this side. Both strands of DNA are on the same side."""
        if not self.fraction:
            return not self.is_held_out
        if has_two_strands:
            beginning = beginning.translate(_URACIL_AS_THYMINE)  # so that complementing twice changes nothing
            beginning = min(beginning, reverse_complement(beginning))
        digest = hashlib.blake2b(beginning, digest_size=_HASH_BYTES).digest()
        is_held_out = int.from_bytes(digest) < self.fraction * 2 ** (8 * _HASH_BYTES)
        return is_held_out == self.is_held_out


EVERYTHING = Split()
