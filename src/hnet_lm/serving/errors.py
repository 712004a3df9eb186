"""Errors as OpenAI clients expect them: a status, and `{"error": {"message", "type", "param", "code"}}`."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hnet_lm.errors import UserError
from hnet_lm.serving.responses import to_json

logger = logging.getLogger(__name__)

_TYPE_OF_STATUS = {401: "authentication_error", 429: "rate_limit_error"}
_SHOWN_CHARACTERS = 100


class ApiError(Exception):
    """An error that a client is sent. `param` names the field at fault, `code` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers

    @property
    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else _TYPE_OF_STATUS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> Response:
        return Response(to_json(self.body), self.status, dict(self.headers or {}), "application/json")


def shown(name: str) -> str:
    """What a client sent, safe to repeat in an error: truncated, and escaped where it is not printable."""
    cut = name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "…"
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in cut)


def overloaded(what: str, seconds: float = 1) -> ApiError:
    """429: the same request may succeed `seconds` later."""
    seconds = max(1, math.ceil(seconds))
    when = "in a moment" if seconds == 1 else f"in {seconds} seconds"
    return ApiError(429, f"{what}; try again {when}", code="rate_limit_exceeded", headers={"Retry-After": str(seconds)})


def internal_error() -> ApiError:
    """Does not tell the cause, which is in the server's log."""
    return ApiError(500, "the server failed on this request", code="internal_error")


def as_api_error(error: Exception) -> ApiError:
    """What a client is told about any error; one that nobody expected is logged."""
    match error:
        case ApiError():
            return error
        case UserError():
            return ApiError(400, str(error), code="invalid_value")
        case HTTPException():
            headers = {**(error.headers or {})}
            return ApiError(error.status_code, str(error.detail), headers=headers)
        case TimeoutError():
            return ApiError(504, "the request took longer than this server allows", code="timeout")
    logger.error("request failed", exc_info=error)
    return internal_error()


def install_error_handlers(app: FastAPI) -> None:
    async def handle(request: Request, error: Exception) -> Response:
        match error:
            case HTTPException(status_code=404):
                error = _no_such_path(request)
            case HTTPException(status_code=405):
                error = _no_such_method(request, error)
        return as_api_error(error).response

    for kind in (ApiError, UserError, HTTPException, TimeoutError, Exception):
        app.add_exception_handler(kind, handle)


def _no_such_path(request: Request) -> ApiError:
    message = (
        f"there is nothing at {shown(request.url.path)}; an OpenAI client's base URL ends in /v1, and this server has "
        "/v1/completions, /v1/chunks, /v1/embeddings and /v1/models"
    )
    return ApiError(404, message, code="not_found")


def _no_such_method(request: Request, error: HTTPException) -> ApiError:
    headers = {**(error.headers or {})}
    allowed = headers.get("Allow", "another method")
    message = f"{shown(request.url.path)} takes {allowed}, not {shown(request.method)}"
    return ApiError(405, message, code="method_not_allowed", headers=headers)
