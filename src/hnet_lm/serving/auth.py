"""The middleware that asks for an API key: `Authorization: Bearer KEY`."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.errors import ApiError


class RequireKey:
    """Refuses requests without a known key with 401, before anything of their body is read.

    Paths that `is_open` says yes to need none.
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
    """What follows Bearer, as bytes: the header says nothing of its encoding."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else b""
    return b""
