"""API keys, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from hnet_lm.errors import UserError


class ApiKeys:
    """The keys that open the server. Keeps digests only."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file, one a line; empty lines and lines that begin with # are left out. Raises UserError."""
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as a file of API keys: {error}") from error
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UserError(f"{path}: holds no API key; write one a line")
        return cls(keys)

    def __contains__(self, key: str) -> bool:
        # Digests have one length, and all are compared: the time tells neither how long a key is nor which was near.
        matches = [hmac.compare_digest(digest, _digest(key)) for digest in self._digests]
        return any(matches)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
