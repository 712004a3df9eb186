"""A request's body as one of the protocol's classes, or an error that names what the client sent.

A field that is null counts as missing: clients send null for an argument that was given as None.
"""

import asyncio
import difflib
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from hnet_lm.serving.errors import ApiError, shown
from hnet_lm.serving.protocol import Body

B = TypeVar("B", bound=Body)

# A larger body is parsed on another thread, so that the event loop is not blocked.
_INLINE_BYTES = 8192


def body_of(kind: type[B]) -> Callable[[Request], Awaitable[B]]:
    """A dependency that reads the body of a request as `kind`. Raises ApiError."""

    async def read(request: Request) -> B:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise _not_json("the body must be JSON, sent with the header Content-Type: application/json")
        data = await request.body()
        return await asyncio.to_thread(parse, data, kind) if len(data) > _INLINE_BYTES else parse(data, kind)

    return read


def parse(data: bytes, kind: type[B]) -> B:
    """Raises ApiError for the first field that does not fit."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise _not_json("the body is nested too deeply") from None
    except ValueError as error:  # also for bytes that are not UTF-8, and for integers of thousands of digits
        raise _not_json(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _not_json("the body must be a JSON object")
    for name in value:
        if name not in kind.model_fields:
            raise _unknown(name, list(kind.model_fields))
    try:
        return kind.model_validate({name: item for name, item in value.items() if item is not None})
    except ValidationError as error:
        raise _misfit(error) from None


def _not_json(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_json")


def _unknown(name: str, known: list[str], where: str = "") -> ApiError:
    near = difflib.get_close_matches(name[:100], known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ApiError(400, f"{where}{shown(name)}: there is no such field{hint}", param=shown(name), code="unknown_field")


def _misfit(error: ValidationError) -> ApiError:
    """The first field that does not fit, by the path that the client wrote."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = [shown(str(part)) for part in first["loc"]]
    match first["type"]:
        case "extra_forbidden":
            return _unknown(path[-1], [], "".join(f"{part}." for part in path[:-1]))
        case "missing":
            message = "is missing"
        case "value_error":
            message = first["msg"].removeprefix("Value error, ")
        case _:
            message = first["msg"][:1].lower() + first["msg"][1:]
    return ApiError(400, f"{'.'.join(path)}: {message}", param=path[0], code="invalid_value")
