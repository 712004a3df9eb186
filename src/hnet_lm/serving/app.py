"""The application: routes over the runners, behind the middleware that counts, authenticates and limits."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from hnet_lm.generation import EngineLimits
from hnet_lm.model import HNetLM
from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.auth import RequireKey
from hnet_lm.serving.errors import install_error_handlers
from hnet_lm.serving.guard import Guard
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.metrics import CountRequests, Metrics
from hnet_lm.serving.routes.completions import completions_router
from hnet_lm.serving.routes.looking import looking_router
from hnet_lm.serving.routes.page import PageFiles, page_router
from hnet_lm.serving.routes.service import service_router
from hnet_lm.serving.runner import ModelRunner
from hnet_lm.serving.runners import Runners

_OPEN_PATHS = ("/static/", "/health")
_COUNTED_PATHS = frozenset(
    {"/", "/v1/completions", "/v1/chunks", "/v1/embeddings", "/v1/models", "/health", "/metrics"}
)


def create_app(
    models: Mapping[str, HNetLM],
    request_limits: RequestLimits | None = None,
    engine_limits: EngineLimits | None = None,
    api_keys: ApiKeys | None = None,
) -> FastAPI:
    """An ASGI application that serves these models by name. Without API keys everybody who reaches it may use it."""
    limits = request_limits or RequestLimits()
    metrics = Metrics()
    runners = Runners(
        {
            name: ModelRunner(name, model, engine_limits or EngineLimits(), limits.max_waiting, metrics)
            for name, model in models.items()
        }
    )

    @asynccontextmanager
    async def run_models(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for runner in runners:
                runner.start()
                stack.push_async_callback(runner.stop)
            yield

    # No generated documentation: its pages load scripts from elsewhere.
    app = FastAPI(title="hnet-lm", lifespan=run_models, openapi_url=None)
    install_error_handlers(app)
    app.include_router(completions_router(runners, limits, metrics))
    app.include_router(looking_router(runners, limits))
    app.include_router(service_router(runners, limits, metrics))
    app.include_router(page_router())
    app.mount("/static", PageFiles())
    app.add_middleware(Guard, limits=limits)  # the last added is the outermost
    if api_keys is not None:
        app.add_middleware(RequireKey, keys=api_keys, open_paths=_OPEN_PATHS)
    app.add_middleware(CountRequests, metrics=metrics, paths=_COUNTED_PATHS)
    return app
