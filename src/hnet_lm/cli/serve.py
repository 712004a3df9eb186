"""`hnet-lm serve`: one or more models over HTTP, with a page to try them."""

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from hnet_lm.checkpoint import CONFIG
from hnet_lm.cli.loading import PrecisionOption, load_model, tokenizer_of
from hnet_lm.errors import UserError
from hnet_lm.extras import import_leaf
from hnet_lm.generation import EngineLimits
from hnet_lm.inputs import local
from hnet_lm.serving.limits import RateLimits, RequestLimits
from hnet_lm.training.followed_run import FollowedRun

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs
    from hnet_lm.model import HNetLM


@dataclass(frozen=True)
class Command:
    """Serve models: OpenAI-compatible completions, chunks, embeddings, metrics, and a page at /."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL ...")]
    """Saved directories or hub models (hf:owner/name), named by their last part; NAME=MODEL gives another name."""
    host: str = "127.0.0.1"
    """127.0.0.1 is reachable from this machine only; 0.0.0.0 from everywhere: then set API keys."""
    port: int = 8000
    """0 takes any free port."""
    api_key_file: str | None = None
    """A file of API keys, one per line; - is standard input. Without it anybody who can reach the server may use it."""
    device: str = "cpu"
    """Where the models run: cpu, cuda, cuda:1."""
    precision: PrecisionOption = None
    allow_origin: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Let pages of this origin (http://localhost:3000) use the server from a browser; * lets all. May be repeated."""
    log_requests: bool = False
    """Write a line to standard error for every request: address, method, path, status, bytes, seconds."""
    drain_seconds: int = 30
    """Time that running answers have to finish after SIGTERM."""
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
        followed = {name: FollowedRun.of(Path(local(source))) for name, source in sources.items()}
        runs = {name: run.summary for name, run in followed.items() if run is not None}
        begun = {name for name in runs if not is_model(sources[name])}
        loaded = {name: self.load(source) for name, source in sources.items() if name not in begun}
        models = {name: model for name, (model, _) in loaded.items()}
        tokenizers = {name: tokenizer for name, (_, tokenizer) in loaded.items() if tokenizer is not None}
        awaited = {name: partial(self.load_if_there, sources[name]) for name in begun}
        app = create_app(models, self.limits, self.engine, keys, self.rates, origins, tokenizers, runs, awaited)
        for name in awaited:
            print(f"{name}: its run has written no checkpoint yet; the first one is served when it is there")
        print(f"serving {', '.join(sources)} at {server.url(listener)} (Ctrl-C ends)", flush=True)
        server.serve(app, listener, self.limits, self.drain_seconds, self.log_requests)

    def load(self, source: str) -> "tuple[HNetLM, BytePairs | None]":
        """The model, and the tokenizer of a model of tokens."""
        model = load_model(source, self.device, self.precision).eval()
        return model, tokenizer_of(source, model)

    def load_if_there(self, source: str) -> "tuple[HNetLM, BytePairs | None] | None":
        return self.load(source) if is_model(source) else None


def is_model(directory: str) -> bool:
    """Whether a run's folder has a model yet: the configuration is written last."""
    return (Path(local(directory)) / CONFIG).exists()


def named_sources(arguments: tuple[str, ...]) -> dict[str, str]:
    """Sources by the names of the models. Raises UserError for two with one name."""
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
    """An origin as browsers send it. Raises UserError for an invalid one."""
    if origin in ("*", "null") or re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin):
        return origin
    raise UserError(
        f"--allow-origin {origin}: an origin is a scheme, a host and perhaps a port, such as http://localhost:3000, "
        "with no path; * stands for all"
    )
