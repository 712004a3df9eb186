"""`hnet-lm serve`: one or more models over HTTP, with a page to try them."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.cli.loading import PrecisionOption, load_model, tokenizer_of
from hnet_lm.errors import UserError
from hnet_lm.extras import import_leaf
from hnet_lm.generation import EngineLimits
from hnet_lm.inputs import local
from hnet_lm.serving.limits import RateLimits, RequestLimits
from hnet_lm.training.followed_run import FollowedRun


@dataclass(frozen=True)
class Command:
    """Serve models: OpenAI-compatible completions, chunks, embeddings, metrics, and a page at /."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL ...")]
    """Saved directories or hub models (hf:owner/name), named by their last part; NAME=MODEL gives another name."""
    host: str = "127.0.0.1"
    """127.0.0.1 is reached from this machine alone; 0.0.0.0 from everywhere: then give API keys."""
    port: int = 8000
    """0 takes any free port."""
    api_key_file: str | None = None
    """A file of API keys, one per line; - is standard input. Without it everybody who reaches the server may use it."""
    device: str = "cpu"
    """Where the models run: cpu, cuda, cuda:1."""
    precision: PrecisionOption = None
    allow_origin: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Let pages of this origin (http://localhost:3000) use the server from a browser; * lets all. May be repeated."""
    log_requests: bool = False
    """Write a line to standard error for every request: address, method, path, status, bytes, seconds."""
    drain_seconds: int = 30
    """At SIGTERM, how long running answers may take to finish."""
    limits: RequestLimits = field(default_factory=RequestLimits)
    rates: RateLimits = field(default_factory=RateLimits)
    engine: EngineLimits = field(default_factory=EngineLimits)

    def run(self) -> None:
        sources = named_sources(self.models)
        server = import_leaf("hnet_lm.serving.server", "serve", "hnet-lm serve")
        create_app = import_leaf("hnet_lm.serving.app", "serve", "hnet-lm serve").create_app
        origins = [checked_origin(origin) for origin in self.allow_origin]
        auth = import_leaf("hnet_lm.serving.api_keys", "serve", "hnet-lm serve")
        keys = None if self.api_key_file is None else auth.ApiKeys.read(self.api_key_file)
        listener = server.listen(self.host, self.port)
        models = {name: load_model(source, self.device, self.precision).eval() for name, source in sources.items()}
        of_tokens = {name: tokenizer_of(sources[name], model) for name, model in models.items()}
        tokenizers = {name: tokenizer for name, tokenizer in of_tokens.items() if tokenizer is not None}
        followed = {name: FollowedRun.of(Path(local(source))) for name, source in sources.items()}
        runs = {name: run.summary for name, run in followed.items() if run is not None}
        app = create_app(models, self.limits, self.engine, keys, self.rates, origins, tokenizers, runs)
        print(f"serving {', '.join(models)} at {server.url(listener)} (Ctrl-C ends)", flush=True)
        server.serve(app, listener, self.limits, self.drain_seconds, self.log_requests)


def named_sources(arguments: tuple[str, ...]) -> dict[str, str]:
    """What to load under which name. Raises UserError for two of one name."""
    if not arguments:
        raise UserError("serve: name at least one model")
    sources: dict[str, str] = {}
    for argument in arguments:
        given, separator, rest = argument.partition("=")
        source = rest if separator else argument
        name = given if separator else source.rstrip("/").rpartition("/")[2]
        if not name or not source:
            raise UserError(f"serve: {argument!r} has no name or no model; write NAME=MODEL")
        if name in sources:
            raise UserError(f"serve: two models are named {name!r}; write another name as NAME={source}")
        sources[name] = source
    return sources


def checked_origin(origin: str) -> str:
    """An origin as browsers send it. Raises UserError for what can be none."""
    if origin in ("*", "null") or re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin):
        return origin
    raise UserError(
        f"--allow-origin {origin}: an origin is a scheme, a host and perhaps a port, such as http://localhost:3000, "
        "with no path; * stands for all"
    )
