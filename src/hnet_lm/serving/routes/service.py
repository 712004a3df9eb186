"""`GET /v1/models`, `/v1/runs`, `/health`, `/metrics`: what is served and how it is doing. Chat is refused here too."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.metrics import Metrics
from hnet_lm.serving.openapi import HEALTH, METRICS, MODEL, MODELS, RUN
from hnet_lm.serving.runner import ModelRunner, Runners

_CHAT_PATHS = ("/v1/chat/completions", "/v1/responses")

Runs = Mapping[str, Callable[[], dict[str, Any]]]
"""By the name of a model: a summary of the run that trains or trained it. Only for models in the folder of a run."""


def service_router(runners: Runners, limits: RequestLimits, metrics: Metrics, runs: Runs) -> APIRouter:
    router = APIRouter()
    created = int(time.time())

    def describe(runner: ModelRunner) -> dict[str, Any]:
        """OpenAI's fields, and what the page needs to know about a model."""
        config = runner.model.config
        return {
            "id": runner.name,
            "object": "model",
            "created": created,
            "owned_by": "hnet-lm",
            "num_stages": config.num_stages,
            "num_parameters": sum(parameter.numel() for parameter in runner.model.parameters()),
            "config": config.to_dict(),
            "has_run": runner.name in runs,
            "max_prompt_bytes": limits.max_prompt_bytes,
            "max_new_bytes": limits.max_new_bytes,
        }

    @router.get("/v1/models", **MODELS)
    async def list_models() -> dict[str, Any]:
        """The models served; `awaited` are the names of models whose runs have written no checkpoint yet."""
        return {"object": "list", "data": [describe(runner) for runner in runners], "awaited": runners.awaited}

    @router.get("/v1/models/{name:path}", **MODEL)
    async def retrieve_model(name: str) -> dict[str, Any]:
        """One model."""
        return describe(runners.find(name))

    @router.get("/v1/runs/{name:path}", **RUN)
    async def retrieve_run(name: str) -> dict[str, Any]:
        """The progress of the run that trains a model: figures and curves."""
        if name not in runs:
            message = f"model {runners.find(name).name!r} is not in the folder of a run"
            raise ApiError(404, message, param="model", code="no_run")
        found = await asyncio.to_thread(runs[name])
        return {"object": "run", "model": name, **found}

    async def refuse_chat() -> None:
        message = (
            "this server has base models, which continue a text and do not chat: send the text as `prompt` to "
            "/v1/completions"
        )
        raise ApiError(404, message, code="no_chat")

    for path in _CHAT_PATHS:
        router.add_api_route(path, refuse_chat, methods=["GET", "POST"], include_in_schema=False)

    @router.get("/health", **HEALTH)
    async def health() -> Response:
        """200 while every model's thread runs."""
        stopped = [runner.name for runner in runners if not runner.is_alive]
        if stopped:
            return PlainTextResponse(f"stopped: {', '.join(stopped)}\n", 503)
        return PlainTextResponse("ok\n")

    @router.get("/metrics", **METRICS)
    async def exposition() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router
