"""HEAD: what GET answers, without the body."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadIsGet:
    """The middleware that lets routes see a GET. The server below, which knows better, sends no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
