"""The downsampler: of each chunk its first vector goes on to the main network, inner = x[b]."""

from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.model.dynamic_chunking.chunker import Routing
from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.sequences import Sequences


class Downsampler(nn.Module):
    """inner = x[b]. State: none."""

    def forward(self, x: Float[Tensor, "t d"], routing: Routing) -> tuple[Float[Tensor, "c d"], Sequences]:
        return select_chunks(x, routing.is_boundary, routing.seqs)
