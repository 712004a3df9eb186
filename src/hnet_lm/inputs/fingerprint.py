"""What a file is known by: its size, and a digest of its bytes, or of samples of them where there are many."""

import hashlib
import io

from hnet_lm.errors import DataError
from hnet_lm.extras import import_leaf
from hnet_lm.inputs.opening import STANDARD_INPUT, open_stored
from hnet_lm.inputs.paths import is_pipe, is_remote

NUM_SAMPLES = 64
SAMPLE_BYTES = 4096
DIGEST_BYTES = 8


def fingerprint(path: str, whole_bytes: int) -> str:
    """`SIZE:DIGEST` of the file as it is stored: all of it up to `whole_bytes`, else of evenly spaced samples.

    Raises one of READ_ERRORS, and DataError for what can be read only once.
    """
    if is_remote(path):
        size, sample = import_leaf("hnet_lm.inputs.remote", "train", f"reading {path}", DataError).ends_of(path)
        return f"{size}:{hashlib.blake2b(sample, digest_size=DIGEST_BYTES).hexdigest()}"
    if path == STANDARD_INPUT or is_pipe(path):
        raise DataError(f"{path}: is a pipe, which can be read only once; save its text to a file first")
    with open_stored(path) as file:
        size = file.seek(0, io.SEEK_END)
        places = range(0, size, SAMPLE_BYTES)
        if size > whole_bytes and len(places) > NUM_SAMPLES:
            places = [(size - SAMPLE_BYTES) * number // (NUM_SAMPLES - 1) for number in range(NUM_SAMPLES)]
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for place in places:
            file.seek(place)
            digest.update(file.read(SAMPLE_BYTES))
    return f"{size}:{digest.hexdigest()}"
