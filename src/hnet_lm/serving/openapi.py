"""The OpenAPI description at /openapi.json: the bodies of requests within this server's limits, and the answers.

The classes of the answers are only for the description; the routes encode what they send themselves.
"""

from collections.abc import Iterable
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.protocol import Body, ChunksBody, CompletionBody, EmbeddingsBody
from hnet_lm.serving.runner import Runners

_BODIES: dict[str, type[Body]] = {
    "/v1/completions": CompletionBody,
    "/v1/chunks": ChunksBody,
    "/v1/embeddings": EmbeddingsBody,
}


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    error: Error


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class CompletionUsage(Usage):
    completion_tokens: int


class Logprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Boundary(BaseModel):
    probs: list[float]
    depth: int


class RoutingOfChoice(BaseModel):
    bytes: list[int]
    boundaries: list[Boundary]


class CompletionChoice(BaseModel):
    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: Logprobs | None
    routing: RoutingOfChoice = RoutingOfChoice(bytes=[], boundaries=[])


class CompletionAnswer(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    usage: CompletionUsage
    choices: list[CompletionChoice]


class ChunksOfStage(BaseModel):
    offsets: list[int] = []
    boundary_prob: list[float] | str
    starts: list[int] | str
    segments: list[str] = []


class ChunksOfText(BaseModel):
    index: int
    object: Literal["chunks"]
    num_bytes: int
    stages: list[ChunksOfStage]


class ChunksAnswer(BaseModel):
    object: Literal["list"]
    model: str
    usage: Usage
    data: list[ChunksOfText]


class Embedding(BaseModel):
    index: int
    object: Literal["embedding"]
    embedding: list[float] | str


class EmbeddingsAnswer(BaseModel):
    object: Literal["list"]
    model: str
    usage: Usage
    data: list[Embedding]


class Model(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    num_stages: int
    num_parameters: int
    config: dict[str, Any]
    has_run: bool
    max_prompt_bytes: int
    max_new_bytes: int


class ModelsAnswer(BaseModel):
    object: Literal["list"]
    data: list[Model]
    awaited: list[str]


class Curve(BaseModel):
    name: str
    points: list[tuple[int, float]]


class Run(BaseModel):
    object: Literal["run"]
    model: str
    step: int
    bytes_seen: int
    has_ended: bool
    bits_per_byte: float | None
    curves: list[Curve]


_ERROR = {
    "description": "An error, with a message for people",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}},
}
_TEXT = {"description": "Text", "content": {"text/plain": {"schema": {"type": "string"}}}}


def _json_of(answer: type[BaseModel], **more: Any) -> dict[str, Any]:
    """Arguments of a route that answers with this JSON, or an error."""
    good = {"model": answer, "description": "The answer", **more}
    return {"response_model": None, "responses": {200: good, "default": _ERROR}}


def _text(*statuses: int) -> dict[str, Any]:
    return {"response_class": PlainTextResponse, "responses": {**dict.fromkeys(statuses, _TEXT), "default": _ERROR}}


_EVENT = {
    "description": "A piece of the answer, an error, or [DONE]",
    "type": "object",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}
COMPLETION = _json_of(CompletionAnswer, content={"text/event-stream": {"schema": _EVENT}})
CHUNKS = _json_of(ChunksAnswer)
EMBEDDINGS = _json_of(EmbeddingsAnswer)
MODELS = _json_of(ModelsAnswer)
MODEL = _json_of(Model)
RUN = _json_of(Run)
HEALTH = _text(200, 503)
METRICS = _text(200)


def install_description(app: FastAPI, runners: Runners, limits: RequestLimits, needs_key: bool) -> None:
    """Serve the description at the application's `openapi_url`."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app, runners, limits, needs_key)
        return app.openapi_schema

    app.openapi = describe


def _describe(app: FastAPI, runners: Runners, limits: RequestLimits, needs_key: bool) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = found["components"]["schemas"]
    schemas["ErrorAnswer"] = ErrorAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schemas["ErrorAnswer"].pop("$defs")
    for path, kind in _BODIES.items():
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, part in {**schema.pop("$defs", {}), kind.__name__: schema}.items():
            _allow_nulls(part)
            schemas[name] = part
        _narrow(schema["properties"], runners, limits)
        reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
        found["paths"][path]["post"]["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    if needs_key:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
        found["paths"]["/health"]["get"]["security"] = []
    return found


def _allow_nulls(schema: dict[str, Any]) -> None:
    """Optional fields may also be null."""
    for name, field in schema["properties"].items():
        field.pop("default", None)
        if name not in schema.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
            description = {"description": text} if (text := field.pop("description", None)) else {}
            schema["properties"][name] = {**description, "anyOf": [field, {"type": "null"}]}


def _narrow(fields: dict[str, Any], runners: Runners, limits: RequestLimits) -> None:
    """Narrow each field to what the limits and models of this server allow."""
    names = [runner.name for runner in runners]
    if not names:  # none is there yet
        return
    fields["model"]["anyOf"][0]["enum"] = names
    if "n" in fields:
        fields["n"]["anyOf"][0]["maximum"] = limits.max_texts
        fields["max_tokens"]["anyOf"][0]["maximum"] = limits.max_new_bytes
        fields["best_of"]["anyOf"][0]["const"] = 1
    if "dimensions" in fields:
        widths = {runner.model.config.stages[-1].d_model for runner in runners}
        fields["dimensions"]["anyOf"][0]["enum"] = sorted(widths)
    highest = 255
    of_bytes = [runner.model.config for runner in runners if not runner.model.config.reads_tokens]
    if "prompt" in fields:
        highest = min([255, *(min(config.bos_id, config.eos_id) - 1 for config in of_bytes)])
    for part in _parts(fields.get("prompt", fields.get("input"))):
        if part.get("maximum") == 255:
            part["maximum"] = highest
        if "minItems" in part and "anyOf" in part["items"]:
            part["maxItems"] = limits.max_texts


def _parts(schema: Any) -> Iterable[dict[str, Any]]:
    """A schema and all schemas inside it."""
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from _parts(item)
