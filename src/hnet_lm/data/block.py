"""A block: the positions in the shuffle buffer, cut into sequences, shuffled and packed into batches.

A run of n + 1 tokens has n positions: inputs `tokens[:-1]`, targets `tokens[1:]`. It is cut into pieces of at most
`max_length` positions, each of which becomes a sequence. The last target of a piece is the first byte of the next one,
so each byte of a document, and its EOS, is a target exactly once; the first bytes of later pieces are predicted without
what precedes the piece. The pieces are shuffled, concatenated, and cut again where a batch is full.
"""

from array import array

import numpy as np

from hnet_lm.data.packed import ORIGIN_COLUMNS, PackedArrays
from hnet_lm.data.runs import Run


class Block:
    """Collects runs of up to `capacity` positions, stored as bytes; BOS and EOS are flags until a batch is made."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_positions = 0
        self.tokens = bytearray()
        self.lengths = array("q")
        self.starts = bytearray()
        self.ends = bytearray()
        self.origin = array("q")
        self.masked = array("q")

    @property
    def is_full(self) -> bool:
        return self.num_positions >= self.capacity

    def add(self, run: Run) -> int:
        """Adds as much of the run as fits; returns the number of positions taken."""
        taken = min(run.num_inputs, self.capacity - self.num_positions)
        is_whole = taken == run.num_inputs
        self.tokens += run.tokens if is_whole else run.tokens[: taken + 1]
        self.lengths.append(taken)
        self.starts.append(run.starts)
        self.ends.append(run.ends and is_whole)
        self.origin.extend(run.origin)
        self.masked.append(min(run.num_masked, taken))
        self.num_positions += taken
        return taken


class PackedBlock:
    """The batches of a block. Each has `tokens_per_batch` positions; the last one of an incomplete block has fewer."""

    def __init__(
        self,
        block: Block,
        *,
        tokens_per_batch: int,
        max_length: int,
        vocab_size: int,
        shuffle: np.random.Generator | None,
    ) -> None:
        self._tokens = np.frombuffer(block.tokens, dtype=np.uint8)
        self._bos, self._eos = vocab_size - 2, vocab_size - 1
        run_length = np.frombuffer(block.lengths, dtype=np.int64)
        run_token = np.cumsum(run_length + 1) - (run_length + 1)

        # Pieces: which run, and from which of its positions on.
        num_pieces = -(-run_length // max_length)
        run = np.repeat(np.arange(len(run_length)), num_pieces)
        first = (np.arange(len(run)) - np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)) * max_length
        if shuffle is not None:
            order = shuffle.permutation(len(run))
            run, first = run[order], first[order]
        length = np.minimum(max_length, run_length[run] - first)

        # Sequences: the pieces end to end, cut where a batch ends.
        piece_end = np.cumsum(length)
        batch_end = np.arange(tokens_per_batch, block.num_positions, tokens_per_batch)
        end = np.union1d(piece_end, batch_end)
        begin = np.concatenate(([0], end[:-1]))
        piece = np.searchsorted(piece_end, begin, side="right")
        run, first = run[piece], first[piece] + begin - (piece_end - length)[piece]

        self._length = end - begin
        self._token = run_token[run] + first
        self._has_bos = (np.frombuffer(block.starts, dtype=np.bool_)[run]) & (first == 0)
        masked = np.frombuffer(block.masked, dtype=np.int64)[run]
        self._masked = np.clip(masked - first, 0, self._length)
        self._has_eos = (np.frombuffer(block.ends, dtype=np.bool_)[run]) & (first + self._length == run_length[run])
        self._origin = np.frombuffer(block.origin, dtype=np.int64).reshape(-1, len(ORIGIN_COLUMNS))[run]
        self._origin[:, -1] += first
        self._bounds = np.append(np.searchsorted(begin, np.concatenate(([0], batch_end))), len(begin))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def arrays(self, batch: int) -> PackedArrays:
        sequences = slice(self._bounds[batch], self._bounds[batch + 1])
        length = self._length[sequences]
        spans = list(zip(self._token[sequences].tolist(), length.tolist(), strict=True))
        input_ids = np.concatenate([self._tokens[begin : begin + n] for begin, n in spans]).astype(np.uint16)
        targets = np.concatenate([self._tokens[begin + 1 : begin + 1 + n] for begin, n in spans]).astype(np.uint16)
        end = np.cumsum(length)
        ends_document = end[self._has_eos[sequences]] - 1
        input_ids[(end - length)[self._has_bos[sequences]]] = self._bos
        targets[ends_document] = self._eos
        masked = self._masked[sequences]
        num_bytes = len(targets) - len(ends_document) - int(masked.sum())
        return PackedArrays(input_ids, targets, length, self._origin[sequences].copy(), num_bytes, masked)
