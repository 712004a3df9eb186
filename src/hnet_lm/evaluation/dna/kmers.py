"""What the frequencies of k-mers alone know of DNA: the baselines that perplexity of a model stands beside.

    p(base | the k bases before it) = (n(context, base) + a) / (n(context) + 4 a)

n counts what came before: all of a training text, if one is given, and of the measured text the bases before this one.
So nothing is fitted to what is measured, as in the context models of DNA compressors. a is 1 for k up to 8 and 1/16
above, where contexts are rare. The first bases of a sequence have the context of what there is. With both strands, a
k-mer also counts as its reverse complement. Bases other than A, C, G and T have no code: a sequence is cut there.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hnet_lm.errors import ConfigError

MAX_ORDER = 12
_CODE = np.full(256, 4, dtype=np.uint8)
_CODE[np.frombuffer(b"ACGTacgt", dtype=np.uint8)] = [0, 1, 2, 3] * 2
_RARE_ORDER, _FREQUENT_WEIGHT, _RARE_WEIGHT = 9, 1.0, 1 / 16


@dataclass(frozen=True)
class KmerBaseline:
    """The context model of one order, on `num_bases` bases."""

    order: int
    num_bases: int
    bits: float

    @property
    def bits_per_base(self) -> float:
        return self.bits / self.num_bases if self.num_bases else math.nan

    @property
    def perplexity(self) -> float:
        return 2**self.bits_per_base


def kmer_baselines(
    sequences: Iterable[bytes], orders: Sequence[int], *, train: Iterable[bytes] = (), both_strands: bool = True
) -> Iterator[KmerBaseline]:
    """The baseline of each order. About 60 bytes of memory per base. Raises ConfigError for an order out of 0 to 12."""
    for order in orders:
        if not 0 <= order <= MAX_ORDER:
            raise ConfigError(f"the order of k-mers must be 0 to {MAX_ORDER}, got {order}")
    known, measured = _pieces(train), _pieces(sequences)
    num_known = sum(map(len, known))
    pieces = [*known, *measured]
    for order in orders:
        nats = _nats(pieces, order, both_strands)[num_known:]
        yield KmerBaseline(order, len(nats), float(nats.sum()) / math.log(2))


def _pieces(sequences: Iterable[bytes]) -> list[np.ndarray]:
    """Codes 0 to 3 of the stretches between bases of another kind."""
    found = []
    for bases in sequences:
        codes = _CODE[np.frombuffer(bases, dtype=np.uint8)]
        cuts = np.flatnonzero(codes == 4)
        found += [piece[piece < 4] for piece in np.split(codes, cuts)]
    return [piece for piece in found if len(piece)]


def _nats(pieces: list[np.ndarray], order: int, both_strands: bool) -> np.ndarray:
    """Of every base, in order."""
    if not pieces:
        return np.zeros(0)
    contexts = np.concatenate([_contexts(piece, order) for piece in pieces])
    bases = np.concatenate(pieces).astype(np.int64)
    events = contexts * 4 + bases
    if both_strands:
        other = np.concatenate([_other_strand(piece, order) for piece in pieces])
        contexts, events = (_interleaved(own, of_other) for own, of_other in ((contexts, other // 4), (events, other)))
    step = 2 if both_strands else 1
    num_of_base, num_of_context = (_earlier(keys)[::step] for keys in (events, contexts))
    weight = _FREQUENT_WEIGHT if order < _RARE_ORDER else _RARE_WEIGHT
    return -np.log((num_of_base + weight) / (num_of_context + 4 * weight))


def _contexts(piece: np.ndarray, order: int) -> np.ndarray:
    """A number for the last `order` bases before each base; shorter contexts, at the beginning, have numbers of their
    own."""
    context = np.zeros(len(piece), dtype=np.int64)
    for back in range(min(order, len(piece)), 0, -1):
        context[back:] = context[back:] * 4 + piece[:-back]
    lengths = np.minimum(np.arange(len(piece)), order)
    return context + (4**lengths - 1) // 3


def _other_strand(piece: np.ndarray, order: int) -> np.ndarray:
    """The event (context and base) that each k-mer is on the other strand; -4 where it is too short to be one."""
    events = np.full(len(piece), -4, dtype=np.int64)
    if len(piece) <= order:
        return events
    num = len(piece) - order
    context = np.zeros(num, dtype=np.int64)
    for back in range(order):  # the base of the event is the first base of the k-mer, its context the others reversed
        context = context * 4 + (3 - piece[order - back : order - back + num].astype(np.int64))
    base = 3 - piece[:num].astype(np.int64)
    events[order:] = (context + (4**order - 1) // 3) * 4 + base
    return events


def _interleaved(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Each own key, and then that of the other strand."""
    return np.stack([own, other], axis=1).reshape(-1)


def _earlier(keys: np.ndarray) -> np.ndarray:
    """How many equal keys stand before each."""
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = in_order[1:] != in_order[:-1]
    index = np.arange(len(keys))
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[order] = index - np.maximum.accumulate(np.where(is_first, index, 0))
    return ranks
