"""The application: routes to the runners, behind middleware that counts, authenticates and limits."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from hnet_lm.errors import UserError
from hnet_lm.generation import EngineLimits, Tokenizer
from hnet_lm.model import HNetLM
from hnet_lm.serving.api_keys import ApiKeys, RequireKey
from hnet_lm.serving.errors import install_error_handlers
from hnet_lm.serving.guard import Guard, HeadIsGet
from hnet_lm.serving.limits import RateLimits, RequestLimits
from hnet_lm.serving.metrics import Metrics
from hnet_lm.serving.observe import Observe, log_request
from hnet_lm.serving.openapi import install_description
from hnet_lm.serving.rates import LimitRate, address_of, key_of
from hnet_lm.serving.routes.completions import completions_router
from hnet_lm.serving.routes.looking import looking_router
from hnet_lm.serving.routes.page import PageFiles, page_router
from hnet_lm.serving.routes.service import Runs, service_router
from hnet_lm.serving.runner import ModelRunner, Runners

LOOK_EVERY = 5.0
"""Seconds between two looks for a model that is awaited."""

logger = logging.getLogger(__name__)

Awaited = Callable[[], tuple[HNetLM, Tokenizer | None] | None]
"""Loads a model, and its tokenizer if it reads tokens; None while it is not there."""


def create_app(
    models: Mapping[str, HNetLM],
    request_limits: RequestLimits | None = None,
    engine_limits: EngineLimits | None = None,
    api_keys: ApiKeys | None = None,
    rate_limits: RateLimits | None = None,
    allow_origins: Sequence[str] = (),
    tokenizers: Mapping[str, Tokenizer] | None = None,
    runs: Runs | None = None,
    awaited: Mapping[str, Awaited] | None = None,
) -> FastAPI:
    """An ASGI application that serves these models by name. Without API keys anybody who can reach it may use it.

    `tokenizers` are those of the models of tokens, by name; `runs` give the progress of the runs that train models.
    `awaited` are models that are not there yet: the server asks for each every few seconds, and serves it when it is.
    """
    limits = request_limits or RequestLimits()
    rates = rate_limits or RateLimits()
    metrics = Metrics()
    engine_limits = engine_limits or EngineLimits()

    def runner_of(name: str, model: HNetLM, tokenizer: Tokenizer | None) -> ModelRunner:
        return ModelRunner(name, model, engine_limits, limits, metrics, tokenizer)

    runners = Runners(
        {name: runner_of(name, model, (tokenizers or {}).get(name)) for name, model in models.items()}, awaited or ()
    )

    @asynccontextmanager
    async def run_models(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:

            def start(runner: ModelRunner) -> None:
                runner.start()
                stack.push_async_callback(runner.stop)

            async def serve_when_there(name: str, find: Awaited) -> None:
                while (found := await asyncio.to_thread(_found, name, find)) is None:
                    await asyncio.sleep(LOOK_EVERY)
                runner = runner_of(name, *found)
                start(runner)
                runners.add(runner)
                app.openapi_schema = None  # it names the models

            stack.callback(runners.forget)
            for runner in runners:
                start(runner)
            tasks = [asyncio.create_task(serve_when_there(name, find)) for name, find in (awaited or {}).items()]
            for task in tasks:
                stack.callback(task.cancel)
            yield

    # Without the pages that show the description: they load scripts from other hosts.
    app = FastAPI(title="hnet-lm", version=version("hnet-lm"), lifespan=run_models, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    app.include_router(completions_router(runners, limits, metrics))
    app.include_router(looking_router(runners, limits))
    app.include_router(service_router(runners, limits, metrics, runs or {}))
    app.include_router(page_router())
    app.mount("/static", PageFiles())
    install_description(app, runners, limits, needs_key=api_keys is not None)
    # The last added is the outermost.
    app.add_middleware(HeadIsGet)
    app.add_middleware(Guard, limits=limits)
    if api_keys is not None:
        key_rates = (rates.requests_per_key, rates.bytes_per_key)
        if any(key_rates):
            app.add_middleware(LimitRate, *key_rates, client_of=key_of, is_open=_is_open)
        app.add_middleware(RequireKey, keys=api_keys, is_open=_is_open)
    address_rates = (rates.requests_per_address, rates.bytes_per_address)
    if any(address_rates):
        app.add_middleware(LimitRate, *address_rates, client_of=address_of, is_open=_is_open)
    if allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allow_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=("Retry-After",),
            allow_private_network=True,
        )
    app.add_middleware(Observe, observers=(metrics.count_request, log_request))
    return app


def _found(name: str, find: Awaited) -> Any:
    """`find()`, or None if it fails: the next call may succeed."""
    try:
        return find()
    except UserError as error:
        logger.warning("model %s: %s", name, error)
        return None


def _is_open(path: str) -> bool:
    """Paths that need no key and are not counted: the page, and the health check."""
    return path in ("/", "/health") or path.startswith("/static/")
