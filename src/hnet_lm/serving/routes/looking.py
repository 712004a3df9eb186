"""`POST /v1/chunks` and `POST /v1/embeddings`: what the chunker makes of a text, and the text as a vector."""

import asyncio
import base64
import struct
from typing import Any

from fastapi import APIRouter

from hnet_lm.inspect import Chunks, chunks
from hnet_lm.serving.embedding import embed
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.protocol import ChunksBody, EmbeddingsBody, check_texts
from hnet_lm.serving.runners import Runners


def looking_router(runners: Runners, limits: RequestLimits) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chunks")
    async def create_chunks(body: ChunksBody) -> dict[str, Any]:
        runner = runners.find(body.model)
        check_texts(body.input, "input", limits)
        deadline = asyncio.get_running_loop().time() + limits.max_request_seconds
        found = [await runner.call(chunks, deadline, text) for text in body.input]
        data = [{"index": index, **_chunks(of_text)} for index, of_text in enumerate(found)]
        return {"object": "list", "model": runner.name, "data": data, "usage": _usage(body.input)}

    @router.post("/v1/embeddings")
    async def create_embeddings(body: EmbeddingsBody) -> dict[str, Any]:
        runner = runners.find(body.model)
        check_texts(body.input, "input", limits)
        deadline = asyncio.get_running_loop().time() + limits.max_request_seconds
        vectors = [await runner.call(embed, deadline, text, body.pooling) for text in body.input]
        if body.encoding_format == "base64":
            vectors = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode("ascii") for v in vectors]
        data = [{"object": "embedding", "index": index, "embedding": v} for index, v in enumerate(vectors)]
        return {"object": "list", "model": runner.name, "data": data, "usage": _usage(body.input)}

    return router


def _chunks(found: Chunks) -> dict[str, Any]:
    """Offsets are of bytes; a segment that begins or ends inside a character shows U+FFFD there."""
    described = found.to_json()
    for stage, fields in enumerate(described["stages"]):
        fields["segments"] = [segment.decode("utf-8", "replace") for segment in found.segments(stage)]
    return {"object": "chunks", **described}


def _usage(texts: list[bytes]) -> dict[str, int]:
    total = sum(map(len, texts))
    return {"prompt_tokens": total, "total_tokens": total}
