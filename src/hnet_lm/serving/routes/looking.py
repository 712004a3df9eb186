"""`POST /v1/chunks` and `POST /v1/embeddings`: where the chunker cuts a text, and the text as a vector.

Results are encoded on the thread that computed them.
"""

import asyncio
import base64
from collections.abc import Callable
from typing import Annotated, Concatenate, ParamSpec

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from hnet_lm.inspect import chunks
from hnet_lm.model import HNetLM
from hnet_lm.serving.bodies import body_of
from hnet_lm.serving.embedding import Pooling, embed
from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.openapi import CHUNKS, EMBEDDINGS
from hnet_lm.serving.protocol import ChunksBody, EmbeddingsBody, check_texts
from hnet_lm.serving.rates import count_bytes
from hnet_lm.serving.responses import JsonAnswer, json_list, json_object, to_json
from hnet_lm.serving.runner import ModelRunner, Runners

P = ParamSpec("P")


def looking_router(runners: Runners, limits: RequestLimits) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chunks", **CHUNKS)
    async def create_chunks(http: Request, body: Annotated[ChunksBody, Depends(body_of(ChunksBody))]) -> Response:
        """Show where the model cuts texts into chunks, stage by stage."""
        runner = runners.find(body.model)
        return await answer(http, runner, body.input, encoded_chunks, body.encoding_format == "base64")

    @router.post("/v1/embeddings", **EMBEDDINGS)
    async def create_embeddings(
        http: Request, body: Annotated[EmbeddingsBody, Depends(body_of(EmbeddingsBody))]
    ) -> Response:
        """Texts as vectors."""
        runner = runners.find(body.model)
        width = runner.model.config.stages[-1].d_model
        if body.dimensions not in (None, width):
            message = f"dimensions: this model's embeddings have {width}, and no other number"
            raise ApiError(400, message, param="dimensions", code="invalid_value")
        return await answer(http, runner, body.input, encoded_embedding, body.pooling, body.encoding_format == "base64")

    async def answer(
        http: Request,
        runner: ModelRunner,
        texts: list[bytes],
        find: Callable[Concatenate[HNetLM, int, bytes, P], bytes],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> JsonAnswer:
        """A list with the result of `find` for each text."""
        if runner.model.config.reads_tokens:
            message = f"model {runner.name!r} reads tokens of a tokenizer; only models of bytes can do this"
            raise ApiError(400, message, param="model", code="model_of_tokens")
        check_texts(texts, "input", limits)
        total = sum(map(len, texts))
        count_bytes(http.scope, total)
        deadline = asyncio.get_running_loop().time() + limits.max_request_seconds
        found = [await runner.call(find, deadline, index, text, *args, **kwargs) for index, text in enumerate(texts)]
        usage = {"prompt_tokens": total, "total_tokens": total}
        head = {"object": "list", "model": runner.name, "usage": usage}
        return JsonAnswer(json_object(head, "data", json_list(found)))

    return router


def encoded_chunks(model: HNetLM, index: int, text: bytes, in_base64: bool) -> bytes:
    """Offsets are of bytes; a segment that begins or ends inside a character shows U+FFFD there.

    In base64 both are left out: the offsets of a stage are the starts of the stage outside it, or all bytes.
    """
    found = chunks(model, text)
    if in_base64:
        stages = [
            {"boundary_prob": to_base64(stage.boundary_prob, "<f4"), "starts": to_base64(stage.starts, "<u4")}
            for stage in found.stages
        ]
        return to_json({"index": index, "object": "chunks", "num_bytes": len(text), "stages": stages})
    described = found.to_json()
    for stage, fields in enumerate(described["stages"]):
        fields["segments"] = [segment.decode("utf-8", "replace") for segment in found.segments(stage)]
    return to_json({"index": index, "object": "chunks", **described})


def encoded_embedding(model: HNetLM, index: int, text: bytes, pooling: Pooling, in_base64: bool) -> bytes:
    vector = embed(model, text, pooling)
    encoded = to_base64(vector, "<f4") if in_base64 else vector
    return to_json({"object": "embedding", "index": index, "embedding": encoded})


def to_base64(values: npt.ArrayLike, dtype: str) -> str:
    return base64.b64encode(np.asarray(values, dtype).tobytes()).decode("ascii")
