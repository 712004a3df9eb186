"""`Batch`: the input of one optimizer step of one rank."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from hnet_lm.data.packed import PackedArrays
from hnet_lm.sequences import IGNORE_INDEX, Sequences


@dataclass(frozen=True, eq=False)
class Batch:
    """Packed sequences with their next-byte targets.

    The target `IGNORE_INDEX` marks positions without a target, the bytes of prompts. All others have one: the last
    target of a sequence is the byte (or EOS) that follows it in its document.

    Attributes:
        num_bytes: Bytes of text among the targets (the others are EOS, or have none).
        origin: For each sequence the columns of `ORIGIN_COLUMNS`: the source, its epoch, the file (in sorted order) and
            the record that it was cut from, and the number of targets of that record before its first one.
    """

    input_ids: Int[Tensor, " t"]
    targets: Int[Tensor, " t"]
    sequences: Sequences
    origin: Int[Tensor, "b 5"]
    num_bytes: int

    @classmethod
    def from_arrays(cls, arrays: PackedArrays) -> "Batch":
        targets = arrays.targets.astype(np.int64)
        starts = np.cumsum(arrays.lengths) - arrays.lengths
        for i in np.flatnonzero(arrays.masked):
            targets[starts[i] : starts[i] + arrays.masked[i]] = IGNORE_INDEX
        return cls(
            torch.from_numpy(arrays.input_ids.astype(np.int64)),
            torch.from_numpy(targets),
            Sequences.from_lengths(arrays.lengths.tolist()),
            torch.from_numpy(arrays.origin),
            arrays.num_bytes,
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with its ids and sequences on a device: to CUDA by asynchronous copies from pinned memory."""
        sequences = Sequences.from_lengths(self.sequences.host_lengths, device=device)
        return Batch(
            _copied(self.input_ids, torch.device(device)),
            _copied(self.targets, torch.device(device)),
            sequences,
            self.origin,
            self.num_bytes,
        )


def _copied(ids: Int[Tensor, " t"], device: torch.device) -> Int[Tensor, " t"]:
    """On the device. Only a copy from pinned memory runs beside what the device computes."""
    if device.type == "cuda" and ids.device.type == "cpu":
        ids = ids.pin_memory()
    return ids.to(device, non_blocking=True)
