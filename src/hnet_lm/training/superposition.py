"""Token superposition: a run that begins on averages of several bytes, at the cost of one (Nous, arXiv 2605.06546).

For the first fraction of the updates each sequence is read in bags of s bytes, the last one shorter:

    x_k = mean of the embeddings of bag k           with n-grams their embeddings are averaged as well
    loss = mean over all bytes of bag k + 1 of the cross entropy of the logits at k

So the model has as many positions per update as ever, and reads s times the bytes: an update takes s batches. Attention
sees as many bytes as ever, in a position per bag. Every byte of a sequence is a target once, but for those of its first
bag: a sequence of fewer bytes than a bag teaches nothing. Then the run goes on as any other, with the same weights.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from hnet_lm.data import IGNORE_INDEX, Batch
from hnet_lm.model import HNetLM, HNetOutput
from hnet_lm.sequences import Sequences


class Superposition(nn.Module):
    """The model over bags, called as the model is: the logits at a byte are those of the bag before the next byte's."""

    def __init__(self, model: HNetLM, bag_size: int):
        super().__init__()
        self.model = model
        self.bag_size = bag_size

    def forward(self, input_ids: Int[Tensor, " t"], seqs: Sequences) -> HNetOutput:
        x, seqs = self.model.embed(input_ids, seqs)
        bags = Sequences.from_lengths([-(-n // self.bag_size) for n in seqs.host_lengths], device=seqs.device)
        out = self.model.from_vectors(self.averaged(x, seqs, bags), bags)
        bag_of_next = (seqs.positions + 1) // self.bag_size
        rows = bags.starts[seqs.sequence_ids] + (bag_of_next - 1).clamp_min(0)  # the first bag is no target
        return HNetOutput(out.logits.index_select(0, rows), out.routings, None, out.hidden.index_select(0, rows))

    def averaged(self, x: Float[Tensor, "t d"], seqs: Sequences, bags: Sequences) -> Float[Tensor, "k d"]:
        """The mean of each bag's vectors."""
        first = seqs.starts[bags.sequence_ids] + self.bag_size * bags.positions
        return embedding_bag(torch.arange(len(x), device=x.device), x, first, mode="mean")


def superposed(batches: Sequence[Batch], bag_size: int) -> Batch:
    """One batch of the sequences of all, in which the bytes of a sequence's first bag are no targets."""
    sequences = Sequences.from_lengths([n for batch in batches for n in batch.sequences.host_lengths])
    targets = torch.cat([batch.targets for batch in batches])
    return Batch(
        torch.cat([batch.input_ids for batch in batches]),
        targets.masked_fill(sequences.positions < bag_size - 1, IGNORE_INDEX),
        sequences,
        torch.cat([batch.origin for batch in batches]),
        sum(batch.num_bytes for batch in batches),
    )
