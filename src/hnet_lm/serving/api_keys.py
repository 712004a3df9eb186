"""API keys, and the middleware that asks for one: `Authorization: Bearer KEY`."""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from starlette.types import ASGIApp, Receive, Scope, Send

from hnet_lm.errors import UserError
from hnet_lm.inputs import read_lines
from hnet_lm.serving.errors import ApiError


class ApiKeys:
    """The valid keys, compared in constant time. Only digests are kept."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._names = {digest: name for key in keys for digest, name in _digests(key)}

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """From a file, one per line; empty lines and lines that begin with # are skipped. Raises UserError."""
        lines = [line.strip() for line in read_lines(path, UserError)]
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UserError(f"{path}: holds no API key; write one per line")
        return cls(keys)

    def __contains__(self, key: object) -> bool:
        """Whether this key is valid: a string, or the bytes of a header."""
        if isinstance(key, str):
            return any(self._name_of(digest) is not None for digest, _ in _digests(key))
        return isinstance(key, bytes) and self.find(key) is not None

    def find(self, key: bytes) -> str | None:
        """An opaque name for the key in a header; None for an unknown key."""
        return self._name_of(hashlib.sha256(key).digest())

    def _name_of(self, digest: bytes) -> str | None:
        # All digests are compared, and have one length: the time reveals neither the length of a key nor a near match.
        matches = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return matches[0] if matches else None


def _digests(key: str) -> Iterator[tuple[bytes, str]]:
    """Digests of the bytes that a client may send for a key: UTF-8, as most do, or Latin-1, HTTP's first encoding."""
    name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    for encoding in ("utf-8", "latin-1"):
        try:
            yield hashlib.sha256(key.encode(encoding)).digest(), name
        except UnicodeEncodeError:
            continue


class RequireKey:
    """Refuses requests without a known key with 401, before any of the body is read.

    Paths for which `is_open` is true need no key.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, is_open: Callable[[str], bool]) -> None:
        self._app = app
        self._keys = keys
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            found = self._keys.find(_key(scope))
            if found is None:
                error = ApiError(
                    401,
                    "a valid API key is needed: Authorization: Bearer KEY",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
                return await error.response(scope, receive, send)
            scope.setdefault("state", {})["api_key"] = found
        await self._app(scope, receive, send)


def _key(scope: Scope) -> bytes:
    """What follows Bearer, as bytes: the encoding of the header is unknown."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else b""
    return b""
