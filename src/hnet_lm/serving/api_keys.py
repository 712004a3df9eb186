"""API keys, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from hnet_lm.errors import UserError


class ApiKeys:
    """The keys that open the server. Keeps digests only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._names = {digest: name for key in keys for digest, name in _digests(key)}

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file, one a line; empty lines and lines that begin with # are left out. Raises UserError."""
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as a file of API keys: {error}") from error
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UserError(f"{path}: holds no API key; write one a line")
        return cls(keys)

    def find(self, key: bytes) -> str | None:
        """A name for a key as a header has it, which tells nothing of it; None for one that is not known."""
        digest = hashlib.sha256(key).digest()
        # Digests have one length, and all are compared: the time tells neither how long a key is nor which was near.
        matches = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return matches[0] if matches else None


def _digests(key: str) -> Iterator[tuple[bytes, str]]:
    """Of the bytes that a client may send for a key: UTF-8, as most do, or Latin-1, which HTTP began with."""
    name = hashlib.sha256(key.encode("utf-8")).hexdigest()
    for encoding in ("utf-8", "latin-1"):
        try:
            yield hashlib.sha256(key.encode(encoding)).digest(), name
        except UnicodeEncodeError:
            continue
