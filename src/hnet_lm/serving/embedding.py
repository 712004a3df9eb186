"""A text as one vector: the innermost main network's outputs, one per chunk, pooled.

Decoders do not run. A chunk that holds BOS alone is left out if the text has others.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from hnet_lm.model import HNetLM

Pooling = Literal["mean", "last"]


@torch.inference_mode()
def embed(model: HNetLM, text: bytes, pooling: Pooling = "mean") -> list[float]:
    """A vector of length 1, as wide as the innermost stage."""
    y = innermost_outputs(model, text)
    pooled = y[-1] if pooling == "last" else y.mean(0)
    return normalize(pooled.float(), dim=0).tolist()


def innermost_outputs(model: HNetLM, text: bytes) -> Float[Tensor, "c d"]:
    """The innermost main network's output for every chunk of the text, which follows BOS."""
    encoding = model.encode(torch.tensor([model.config.bos_id, *text], device=model.device))
    y, _ = model.innermost(encoding.chunks, encoding.seqs)
    bos_is_alone = all(bool(routing.is_boundary[1:2].all()) for routing in encoding.routings)
    return y[1:] if bos_is_alone and len(y) > 1 else y
