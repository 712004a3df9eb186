"""The chunks into which a model cuts a text.

Only the encoders and routing modules run. Boundaries depend on nothing after them, so the decoders and the innermost
network, which is most of the work, are not needed. The text is read in pieces and the state is carried: memory is
bounded for any length, and the boundaries are those of a single call.
"""

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from hnet_lm.checks import require_whole
from hnet_lm.errors import DataError
from hnet_lm.inspect.structure import Chunks
from hnet_lm.model import HNetLM, Routing

PIECE_BYTES = 8192


@torch.inference_mode()
def chunks(model: HNetLM, text: str | bytes, piece_bytes: int = PIECE_BYTES) -> Chunks:
    """Segments and boundary probabilities of every stage; the model reads BOS, then the text."""
    data = _as_bytes(text)
    require_whole("piece_bytes", piece_bytes, 1, error=DataError)
    ids = torch.tensor([model.config.bos_id, *data], dtype=torch.int64)
    stages: list[tuple[np.ndarray, np.ndarray]] = []
    bos_is_alone = True
    for routings in _routings(model, ids, piece_bytes):
        boundary_prob = torch.cat([r.boundary_prob for r in routings]).float().cpu().numpy()
        is_boundary = torch.cat([r.is_boundary for r in routings]).cpu().numpy()
        # A first position that holds BOS alone is left out; one that holds BOS and more represents byte 0.
        shown = slice(1 if bos_is_alone else 0, None)
        stages.append((boundary_prob[shown], is_boundary[shown]))
        bos_is_alone = bos_is_alone and bool(is_boundary[1:2].all())
    return Chunks.from_positions(data, stages)


def _routings(model: HNetLM, ids: Int[Tensor, " t"], piece_bytes: int) -> list[list[Routing]]:
    """For each stage the routings of the pieces, in order."""
    state = model.new_state(1)
    found: list[list[Routing]] = [[] for _ in range(model.config.num_stages)]
    for piece in ids.split(piece_bytes):
        encoding = model.encode(piece.to(model.device), state=state)
        state = encoding.state
        for routings, routing in zip(found, encoding.routings, strict=True):
            routings.append(routing)
    return found


def _as_bytes(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise DataError(f"text must be a string or bytes, not {type(text).__name__}")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"text: character {error.start} is a lone surrogate, which UTF-8 cannot encode") from None
