"""One update: forward and backward of its micro-batches, then the optimizer, unless something was not finite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from hnet_lm.data import IGNORE_INDEX, Batch
from hnet_lm.losses import LossInputs, LossTerm, next_byte_loss, term_values
from hnet_lm.model import HNetOutput
from hnet_lm.training.chunk_statistics import ChunkStatistics, chunk_sums
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.muon import Optimizer
from hnet_lm.training.sharding import gradients_stay_local


@dataclass(frozen=True)
class StepResult:
    """What an update saw on this rank; `StepFigures` puts it together over all ranks."""

    sums: Tensor
    """Over micro-batches, in float64: cross entropy in nats times targets, targets, each value of `terms`."""
    terms: tuple[str, ...]
    """Keys of the terms' values, before their weight."""
    chunks: Tensor
    """`chunk_sums` of each stage, over micro-batches."""
    num_batches: int
    num_bytes: int
    """Bytes of text among the targets; the others are ends of documents."""
    grad_norm: float
    applied: bool
    """False: something was not finite and the weights are as before."""


def update(
    network: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[Batch],
    terms: Sequence[LossTerm],
    max_grad_norm: float,
    precision: torch.dtype,
    ranks: Ranks,
    progress: float = 0.0,
    memories: Sequence[Mapping[str, float]] | None = None,
) -> StepResult:
    """Run one update from these micro-batches; `progress` is the fraction of the run that is done, and `memories` what
    the terms carry.

    The cross entropy is the mean over all targets of all micro-batches and ranks, however many each has: positions
    without a target (`IGNORE_INDEX`) do not count, and equally many bytes are different numbers of tokens. A
    term's loss is the mean over micro-batches and ranks.
    """
    optimizer.zero_grad(set_to_none=True)
    num_targets = [int((batch.targets != IGNORE_INDEX).sum()) for batch in batches]
    (all_targets,) = ranks.sum_of(sum(num_targets))
    mean_targets = all_targets / (len(batches) * ranks.num_ranks)
    sums, chunks = [], []
    for i, (batch, num) in enumerate(zip(batches, num_targets, strict=True)):
        batch = batch.to(ranks.device)
        with gradients_stay_local(network, i + 1 < len(batches)):
            with torch.autocast(ranks.device.type, precision, enabled=precision != torch.float32):
                out: HNetOutput = network(batch.input_ids, batch.sequences)
            cross_entropy = next_byte_loss(out.logits, batch.targets) if num else out.logits.sum() * 0.0
            inputs = LossInputs(
                out.logits,
                batch.targets,
                out.hidden,
                out.routings,
                batch.sequences.with_input_ids(batch.input_ids),
                progress,
                num_ranks=ranks.num_ranks,
                sum_over_ranks=ranks.sum,
            )
            added = term_values(terms, inputs, memories)
            share = num / mean_targets if mean_targets else math.nan  # an update without any target is skipped
            loss = cross_entropy * share + sum(term.weight * term.value for term in added)
            (loss / len(batches)).backward()
        terms_seen = [cross_entropy * num, cross_entropy.new_tensor(num), *(term.value for term in added)]
        sums.append(torch.stack([term.detach().double() for term in terms_seen]))
        chunks.append(torch.stack([chunk_sums(routing) for routing in out.routings]) if out.routings else sums[0][:0])
    seen = torch.stack(sums).sum(0)
    norm = nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
    grad_norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    # The norm is of all ranks' gradient, but each knows only its own loss; they must decide alike.
    applied = math.isfinite(grad_norm) and math.isfinite(ranks.sum(seen.sum()).item())
    if applied:
        optimizer.step()
    num_bytes = sum(batch.num_bytes for batch in batches)
    keys = tuple(term.key for term in added)
    return StepResult(seen, keys, torch.stack(chunks).sum(0), len(batches), num_bytes, grad_norm, applied)


def boundary_fractions(result: StepResult, ranks: Ranks) -> list[float]:
    """The fraction of each stage's positions that were boundaries, over all ranks; they call this together."""
    return [ChunkStatistics.from_sums(sums).boundary_fraction for sums in ranks.sum(result.chunks)]


@dataclass(frozen=True)
class StepFigures:
    """The figures of an update over all ranks."""

    cross_entropy: float
    """Mean over all targets, in nats."""
    terms: dict[str, float]
    """Each term before its weight, by its key; means over micro-batches and ranks."""
    chunks: list[ChunkStatistics]
    targets_per_byte: float
    """1 and a little for a model of bytes (ends of documents are targets as well), below 1 for one of tokens."""

    @property
    def ratio_losses(self) -> list[float]:
        """Of every stage; 0 for one that a rule cuts."""
        return [self.terms.get(f"stage{stage}/ratio_loss", 0.0) for stage in range(len(self.chunks))]

    @property
    def bits_per_byte(self) -> float:
        """Bits of all targets for a byte of text."""
        return self.cross_entropy / math.log(2) * self.targets_per_byte

    @classmethod
    def gather(cls, result: StepResult, ranks: Ranks) -> "StepFigures":
        """Put together what all ranks saw; all ranks call this together."""
        nats, num_targets, *values = ranks.sum(result.sums).tolist()
        num_means = result.num_batches * ranks.num_ranks
        chunks = [ChunkStatistics.from_sums(sums) for sums in ranks.sum(result.chunks)]
        (num_bytes,) = ranks.sum_of(result.num_bytes)
        means = {key: total / num_means for key, total in zip(result.terms, values, strict=True)}
        if not num_targets or not num_bytes:
            return cls(math.nan, means, chunks, math.nan)
        return cls(nats / num_targets, means, chunks, num_targets / num_bytes)
