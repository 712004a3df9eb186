"""The middleware that asks for an API key: `Authorization: Bearer KEY`."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.errors import ApiError


class RequireKey:
    """Refuses requests without a known key with 401, before anything of their body is read.

    The page itself and all below `open_paths` need none.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, open_paths: Sequence[str]) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = tuple(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["path"]) and not self._has_key(Headers(scope=scope)):
            error = ApiError(
                401,
                "a valid API key is needed: Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
            return await error.response(scope, receive, send)
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path == "/" or path.startswith(self._open_paths)

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and key.strip() in self._keys
