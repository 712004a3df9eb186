"""A batch as NumPy arrays with two bytes per id, which are cheap to send between processes."""

from dataclasses import dataclass

import numpy as np

ORIGIN_COLUMNS = ("source", "epoch", "file", "record", "offset")


@dataclass(frozen=True, eq=False)
class PackedArrays:
    """The contents of a `Batch` before they become tensors."""

    input_ids: np.ndarray  # uint16 (t,)
    targets: np.ndarray  # uint16 (t,)
    lengths: np.ndarray  # int64 (b,)
    origin: np.ndarray  # int64 (b, 5), the columns of ORIGIN_COLUMNS
    num_bytes: int
    masked: np.ndarray  # int64 (b,): so many of a sequence's first targets do not count
