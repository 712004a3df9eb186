"""API keys, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from hnet_lm.errors import UserError
from hnet_lm.inputs import read_lines


class ApiKeys:
    """The keys that open the server. Keeps digests only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._names = {digest: name for key in keys for digest, name in _digests(key)}

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """From a file, one per line; empty lines and lines that begin with # are left out. Raises UserError."""
        lines = [line.strip() for line in read_lines(path, UserError)]
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UserError(f"{path}: holds no API key; write one per line")
        return cls(keys)

    def __contains__(self, key: object) -> bool:
        """Whether this key opens the server: a string, or the bytes that a header has."""
        if isinstance(key, str):
            return any(self._name_of(digest) is not None for digest, _ in _digests(key))
        return isinstance(key, bytes) and self.find(key) is not None

    def find(self, key: bytes) -> str | None:
        """A name for a key as a header has it, which tells nothing of it; None for one that is not known."""
        return self._name_of(hashlib.sha256(key).digest())

    def _name_of(self, digest: bytes) -> str | None:
        # Digests have one length, and all are compared: the time tells neither how long a key is nor which was near.
        matches = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return matches[0] if matches else None


def _digests(key: str) -> Iterator[tuple[bytes, str]]:
    """Of the bytes that a client may send for a key: UTF-8, as most do, or Latin-1, which HTTP began with."""
    name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    for encoding in ("utf-8", "latin-1"):
        try:
            yield hashlib.sha256(key.encode(encoding)).digest(), name
        except UnicodeEncodeError:
            continue
