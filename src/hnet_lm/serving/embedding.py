"""A text as one vector: the innermost main network's outputs, of which there is one a chunk, pooled.

Only what lies before them runs; no decoder. The chunk that holds BOS and nothing else is left out where the text has
others.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from hnet_lm.model import HNet, HNetLM
from hnet_lm.sequences import Sequences

Pooling = Literal["mean", "last"]


@torch.inference_mode()
def embed(model: HNetLM, text: bytes, pooling: Pooling = "mean") -> list[float]:
    """A vector of length 1, as wide as the innermost stage."""
    y = innermost_outputs(model, text)
    pooled = y[-1] if pooling == "last" else y.mean(0)
    return normalize(pooled.float(), dim=0).tolist()


def innermost_outputs(model: HNetLM, text: bytes) -> Float[Tensor, "c d"]:
    """The innermost main network's output of every chunk of the text, BOS in front."""
    ids = torch.tensor([model.config.bos_id, *text], device=model.device)
    x, seqs = model.embedding(ids), Sequences.from_lengths([len(ids)], device=model.device)
    bos_is_alone = True
    network = model.network
    while isinstance(network, HNet):
        x_hat, _ = network.encoder(x, seqs)
        routing, _ = network.routing(x_hat, seqs)
        bos_is_alone = bos_is_alone and bool(routing.is_boundary[1:2].all())
        x, seqs = network.downsampler(x_hat, routing)
        x = network.widen(x)
        network = network.main_network
    y, _ = network(x, seqs)
    return y[1:] if bos_is_alone and len(y) > 1 else y
