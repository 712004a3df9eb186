"""Errors as OpenAI clients expect them: a status, and `{"error": {"message", "type", "param", "code"}}`."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hnet_lm.errors import UserError

logger = logging.getLogger(__name__)

_TYPE_OF_STATUS = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """What a client is told. `param` names the field at fault, `code` is for programs."""

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
    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, dict(self.headers or {}))


def overloaded(what: str) -> ApiError:
    return ApiError(429, f"{what}; try again in a moment", code="rate_limit_exceeded", headers={"Retry-After": "1"})


def internal_error() -> ApiError:
    """Says nothing of the cause, which is in the server's log."""
    return ApiError(500, "the server failed on this request", code="internal_error")


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of any error; a mistake in the code is logged."""
    match error:
        case ApiError():
            return error
        case UserError():
            return ApiError(400, str(error), code="invalid_value")
        case RequestValidationError():
            return _validation_error(error)
        case HTTPException():
            headers = {**(error.headers or {})}
            return ApiError(error.status_code, str(error.detail), headers=headers)
        case TimeoutError():
            return ApiError(504, "the request took longer than this server allows", code="timeout")
    logger.error("request failed", exc_info=error)
    return internal_error()


def install_error_handlers(app: FastAPI) -> None:
    async def handle(_: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response

    for kind in (ApiError, UserError, RequestValidationError, HTTPException, TimeoutError, Exception):
        app.add_exception_handler(kind, handle)


def _validation_error(error: RequestValidationError) -> ApiError:
    """The first thing that does not fit."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError(
            400, f"the body is not JSON: {first['ctx']['error']} at {first['loc'][-1]}", code="invalid_json"
        )
    location = [str(part) for part in first["loc"][1:]]
    if not location:
        return ApiError(400, "the body must be a JSON object, sent as application/json", code="invalid_json")
    match first["type"]:
        case "extra_forbidden":
            message = "this server knows no such field"
        case "value_error":
            message = str(first["ctx"]["error"])
        case _:
            message = first["msg"][0].lower() + first["msg"][1:]
    return ApiError(400, f"{'.'.join(location)}: {message}", code="invalid_value", param=location[0])
