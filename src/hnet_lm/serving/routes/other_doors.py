"""Paths that clients try and this server does not have: the answer says where to go."""

from fastapi import APIRouter

from hnet_lm.serving.errors import ApiError

_CHAT_PATHS = ("/v1/chat/completions", "/v1/responses")


def other_doors_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    async def no_chat() -> None:
        message = (
            "this server has base models, which continue a text and know no chat: send the text as `prompt` to "
            "/v1/completions"
        )
        raise ApiError(404, message, code="no_chat")

    for path in _CHAT_PATHS:
        router.add_api_route(path, no_chat, methods=["GET", "POST"])
    return router
