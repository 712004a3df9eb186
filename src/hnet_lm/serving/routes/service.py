"""`GET /v1/models`, `/health`, `/metrics`: what is served, and how it does."""

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.metrics import Metrics
from hnet_lm.serving.openapi import HEALTH, METRICS, MODEL, MODELS
from hnet_lm.serving.runner import ModelRunner, Runners


def service_router(runners: Runners, limits: RequestLimits, metrics: Metrics) -> APIRouter:
    router = APIRouter()
    created = int(time.time())

    def describe(runner: ModelRunner) -> dict[str, Any]:
        """OpenAI's fields, and what a page must know of a model."""
        config = runner.model.config
        return {
            "id": runner.name,
            "object": "model",
            "created": created,
            "owned_by": "hnet-lm",
            "num_stages": config.num_stages,
            "num_parameters": sum(parameter.numel() for parameter in runner.model.parameters()),
            "config": config.to_dict(),
            "max_prompt_bytes": limits.max_prompt_bytes,
            "max_new_bytes": limits.max_new_bytes,
        }

    @router.get("/v1/models", **MODELS)
    async def list_models() -> dict[str, Any]:
        """What is served."""
        return {"object": "list", "data": [describe(runner) for runner in runners]}

    @router.get("/v1/models/{name:path}", **MODEL)
    async def retrieve_model(name: str) -> dict[str, Any]:
        """One model."""
        return describe(runners.find(name))

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
