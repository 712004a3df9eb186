"""`POST /v1/completions`: OpenAI's completions, over bytes; in one piece or as server-sent events."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from hnet_lm.config import HNetConfig
from hnet_lm.generation import Request
from hnet_lm.serving.choice import Choice, joined
from hnet_lm.serving.errors import as_api_error
from hnet_lm.serving.generation_handle import GenerationHandle
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.metrics import Metrics
from hnet_lm.serving.protocol import CompletionBody
from hnet_lm.serving.runners import Runners

# A reader this slow keeps nobody's slot (its completion goes on without it), but memory.
_SEND_SECONDS = 30.0


def completions_router(runners: Runners, limits: RequestLimits, metrics: Metrics) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions", response_model=None)
    async def create_completion(body: CompletionBody) -> dict[str, Any] | EventSourceResponse:
        runner = runners.find(body.model)
        body.check(limits)
        requests = _engine_requests(body, limits)
        begin = asyncio.get_running_loop().time()
        handle = await runner.submit(requests, begin + limits.max_request_seconds)
        completion = _Completion(runner.name, body, requests, runner.model.config, handle, metrics, begin)
        if body.stream:
            return _CompletionStream(completion.stream(), handle)
        with handle:
            return await completion.whole()

    return router


def _engine_requests(body: CompletionBody, limits: RequestLimits) -> list[Request]:
    return [
        Request(
            prompt,
            body.sampling_params(choice, limits),
            prompt_logprobs=bool(body.echo) and body.logprobs is not None,
            boundaries=bool(body.routing),
        )
        for prompt in body.prompt
        for choice in range(body.n or 1)
    ]


class _Completion:
    """The answer to one request, as it comes."""

    def __init__(
        self,
        model_name: str,
        body: CompletionBody,
        requests: list[Request],
        config: HNetConfig,
        handle: GenerationHandle,
        metrics: Metrics,
        begin: float,
    ) -> None:
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model_name,
        }
        self._body = body
        self._choices = [Choice(index, request, body, config) for index, request in enumerate(requests)]
        self._handle = handle
        self._metrics = metrics
        self._begin = begin

    async def whole(self) -> dict[str, Any]:
        deltas: list[list[dict[str, Any]]] = [[] for _ in self._choices]
        async for delta in self._deltas():
            deltas[delta["index"]].append(delta)
        return {**self._head, "choices": [joined(parts) for parts in deltas], "usage": self._usage()}

    async def stream(self) -> AsyncIterator[dict[str, str]]:
        """The data of each server-sent event. An error after the first is sent as an event too: the status is out."""
        try:
            async for delta in self._deltas():
                yield _event({**self._head, "choices": [delta]})
            if self._body.wants_usage_event:
                yield _event({**self._head, "choices": [], "usage": self._usage()})
        except Exception as error:
            yield _event(as_api_error(error).body)
        yield {"data": "[DONE]"}

    async def _deltas(self) -> AsyncIterator[dict[str, Any]]:
        has_begun = False
        async for index, event in self._handle.events():
            if event.data and not has_begun:
                has_begun = True
                seconds = asyncio.get_running_loop().time() - self._begin
                self._metrics.first_byte_seconds.labels(self._head["model"]).observe(seconds)
            delta = self._choices[index].delta(event)
            if delta is not None:
                yield delta

    def _usage(self) -> dict[str, int]:
        prompt = sum(map(len, self._body.prompt))
        new = sum(choice.num_new_bytes for choice in self._choices)
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


class _CompletionStream(EventSourceResponse):
    """Drops the completion however the response ends, also before its first event."""

    def __init__(self, content: AsyncIterator[dict[str, str]], handle: GenerationHandle) -> None:
        super().__init__(content, send_timeout=_SEND_SECONDS)
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._handle:
            await super().__call__(scope, receive, send)


def _event(data: dict[str, Any]) -> dict[str, str]:
    return {"data": json.dumps(data, ensure_ascii=False)}
