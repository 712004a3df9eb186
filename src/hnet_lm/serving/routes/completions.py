"""`POST /v1/completions`: OpenAI's completions, over bytes; in one piece or as server-sent events."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from hnet_lm import generation
from hnet_lm.generation import Event
from hnet_lm.serving.bodies import body_of
from hnet_lm.serving.choice import Choice, WholeChoice
from hnet_lm.serving.errors import as_api_error
from hnet_lm.serving.generation_handle import GenerationHandle
from hnet_lm.serving.guard import held
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.metrics import Metrics
from hnet_lm.serving.openapi import COMPLETION
from hnet_lm.serving.protocol import CompletionBody
from hnet_lm.serving.rates import count_bytes
from hnet_lm.serving.responses import JsonAnswer, json_object, to_json
from hnet_lm.serving.runner import Runners
from hnet_lm.serving.work import check_work

# An event that reports more bytes than this is encoded on another thread, so that the event loop is not blocked.
_INLINE_BYTES = 16


def completions_router(runners: Runners, limits: RequestLimits, metrics: Metrics) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions", **COMPLETION)
    async def create_completion(
        http: Request, body: Annotated[CompletionBody, Depends(body_of(CompletionBody))]
    ) -> Response:
        """Continue texts; with `stream`, as server-sent events."""
        runner = runners.find(body.model)
        body.check(limits)
        requests = _engine_requests(body, limits)
        check_work(requests, runner.model.config.num_stages, limits)
        begin = asyncio.get_running_loop().time()
        handle = await runner.submit(requests, begin + limits.max_request_seconds)
        held(http.scope).enter_context(handle)
        count = partial(count_bytes, http.scope)
        count(sum(map(len, body.prompt)))
        completion = _Completion(runner.name, body, requests, runner.vocabulary, handle, metrics, count, begin)
        if body.stream:
            return EventSourceResponse(completion.stream())
        return JsonAnswer(await completion.whole())

    return router


def _engine_requests(body: CompletionBody, limits: RequestLimits) -> list[generation.Request]:
    params = [body.sampling_params(choice, limits) for choice in range(body.n or 1)]
    return [
        generation.Request(
            prompt,
            params_of_choice,
            prompt_logprobs=bool(body.echo) and body.logprobs is not None,
            boundaries=bool(body.routing),
        )
        for prompt in body.prompt
        for params_of_choice in params
    ]


class _Completion:
    """The answer to one request, as it is generated."""

    def __init__(
        self,
        model_name: str,
        body: CompletionBody,
        requests: list[generation.Request],
        vocabulary: generation.Vocabulary,
        handle: GenerationHandle,
        metrics: Metrics,
        count_bytes: Callable[[int], None],
        begin: float,
    ) -> None:
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model_name,
        }
        self._body = body
        self._choices = [Choice(index, request, body, vocabulary) for index, request in enumerate(requests)]
        self._handle = handle
        self._metrics = metrics
        self._count_bytes = count_bytes
        self._begin = begin

    async def whole(self) -> list[bytes | bytearray]:
        """The parts of the body."""
        choices = [WholeChoice(choice.index) for choice in self._choices]

        def add(index: int, event: Event) -> None:
            delta = self._choices[index].delta(event)
            if delta is not None:
                choices[index].add(delta)

        async for index, event in self._events():
            await _encode(event, add, index, event)
        parts = [part for choice in choices for part in (b",", *choice.parts())]
        return json_object({**self._head, "usage": self._usage()}, "choices", [b"[", *parts[1:], b"]"])

    async def stream(self) -> AsyncIterator[bytes]:
        """The server-sent events. An error after the first is an event too: the status has already been sent."""

        def encoded(index: int, event: Event) -> bytes | None:
            delta = self._choices[index].delta(event)
            return None if delta is None else _sse({**self._head, "choices": [delta]})

        try:
            async for index, event in self._events():
                data = await _encode(event, encoded, index, event)
                if data is not None:
                    yield data
            if self._body.wants_usage_event:
                yield _sse({**self._head, "choices": [], "usage": self._usage()})
        except Exception as error:
            yield _sse(as_api_error(error).body)
        yield b"data: [DONE]\r\n\r\n"

    async def _events(self) -> AsyncIterator[tuple[int, Event]]:
        has_begun = False
        async for index, event in self._handle.events():
            if event.data and not has_begun:
                has_begun = True
                seconds = asyncio.get_running_loop().time() - self._begin
                self._metrics.first_byte_seconds.labels(self._head["model"]).observe(seconds)
            self._count_bytes(len(event.data))
            yield index, event

    def _usage(self) -> dict[str, int]:
        prompt = sum(map(len, self._body.prompt))
        new = sum(choice.num_new_bytes for choice in self._choices)
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


async def _encode(event: Event, encode: Callable[..., Any], *args: Any) -> Any:
    """`encode(*args)`, on another thread if there is much to encode."""
    num_bytes = max(len(event.prompt_logprobs), len(event.logprobs), len(event.boundaries))
    return encode(*args) if num_bytes <= _INLINE_BYTES else await asyncio.to_thread(encode, *args)


def _sse(data: dict[str, Any]) -> bytes:
    return b"data: " + to_json(data) + b"\r\n\r\n"
