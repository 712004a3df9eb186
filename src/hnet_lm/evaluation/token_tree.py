"""The tokens of a vocabulary by their bytes: a prefix tree, stored as one sorted table.

A node represents some bytes. It is the range of rows of the tokens that begin with them. The probability that the next
token begins with these bytes is the sum over the range.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np


class Node(NamedTuple):
    """Rows `start .. end - 1` of the table begin with the `depth` bytes of the node; those before `longer` are these
    bytes and no more."""

    start: int
    longer: int
    end: int
    depth: int


class Children(NamedTuple):
    """The child nodes, one byte longer, ordered by that byte."""

    values: np.ndarray
    """The byte of each."""
    starts: np.ndarray
    """The first row of each."""


class TokenTree:
    """`ids` are the tokens with bytes, in the order of the table."""

    def __init__(self, said: Sequence[bytes]) -> None:
        """`said` are the bytes of each id, empty for ids that never occur in text."""
        self.ids = np.array(sorted((id for id, data in enumerate(said) if data), key=said.__getitem__), dtype=np.int64)
        self._lengths = np.array([len(said[id]) for id in self.ids])
        longest = int(self._lengths.max())
        rows = b"".join(said[id].ljust(longest, b"\0") for id in self.ids)
        self._bytes = np.frombuffer(rows, dtype=np.uint8).reshape(len(self.ids), longest)
        self._children: dict[Node, Children] = {}

    @cached_property
    def root(self) -> Node:
        return Node(0, 0, len(self.ids), 0)

    def children(self, node: Node) -> Children:
        found = self._children.get(node)
        if found is None:
            column = self._bytes[node.longer : node.end, node.depth] if node.longer < node.end else self._bytes[:0, 0]
            values, starts = np.unique(column, return_index=True)
            found = self._children[node] = Children(values, node.longer + starts)
        return found

    def child(self, node: Node, byte: int) -> Node | None:
        """The child node for one more byte; None if no token continues that way."""
        values, starts = self.children(node)
        i = int(np.searchsorted(values, byte))
        if i == len(values) or values[i] != byte:
            return None
        start, end = int(starts[i]), int(starts[i + 1]) if i + 1 < len(starts) else node.end
        depth = node.depth + 1
        longer = start + int((self._lengths[start:end] == depth).sum())  # equal spellings are adjacent, and first
        return Node(start, longer, end, depth)
