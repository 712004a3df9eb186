"""The ratio loss of the paper, which steers how often a stage cuts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hnet_lm.losses.term import LossInputs, LossTerm
from hnet_lm.model.dynamic_chunking import Routing
from hnet_lm.ops.checks import require_floating


@dataclass(frozen=True)
class RatioLoss(LossTerm):
    """The ratio loss of every stage that learns where to cut.

    It is linear in G. So with F and the number of positions taken over all ranks and G's sum from this rank alone, the
    mean over ranks, which is what their gradients are averaged to, is the loss of the global batch.
    """

    target_ratios: tuple[float, ...] = ()
    """N of every stage that learns where to cut, outermost first."""
    over_all_ranks: bool = False
    """Statistics of all ranks' micro-batches together, instead of each rank's own."""

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        learned = [(stage, routing) for stage, routing in enumerate(inputs.routings) if routing.is_learned]
        return {
            f"stage{stage}/ratio_loss": self._of(routing, target_ratio, inputs)
            for (stage, routing), target_ratio in zip(learned, self.target_ratios, strict=True)
        }

    def _of(self, routing: Routing, target_ratio: float, inputs: LossInputs) -> Float[Tensor, ""]:
        positions = torch.as_tensor(float(len(routing.is_boundary)), device=routing.is_boundary.device)
        boundaries, prob = routing.is_boundary.sum(), routing.boundary_prob.sum()
        if self.over_all_ranks and inputs.num_ranks > 1:
            positions, boundaries = inputs.sum_over_ranks(torch.stack([positions, boundaries])).unbind()
            prob = prob * inputs.num_ranks
        return ratio_loss_of(boundaries / positions, prob / positions, target_ratio)


def ratio_loss(routing: Routing, target_ratio: float) -> Float[Tensor, ""]:
    """N/(N-1) ((N-1) F G + (1-F)(1-G)): F the fraction of boundaries (without gradient), G the mean probability.

    Equal to 1 where both are 1/N. `target_ratio` N > 1 is the target number of positions per chunk.
    """
    boundary_prob, is_boundary = routing.boundary_prob, routing.is_boundary
    if routing.valid is not None:
        boundary_prob, is_boundary = boundary_prob[routing.valid], is_boundary[routing.valid]
    return ratio_loss_of(is_boundary.to(boundary_prob.dtype).mean(), boundary_prob.mean(), target_ratio)


def ratio_loss_of(
    boundary_fraction: Float[Tensor, ""], mean_boundary_prob: Float[Tensor, ""], target_ratio: float
) -> Float[Tensor, ""]:
    """The ratio loss from its statistics F and G, which may have been averaged over more than one batch."""
    if not 1 < target_ratio < float("inf"):
        raise ValueError(f"target_ratio must be above 1, got {target_ratio}; it must be finite")
    target_ratio = float(target_ratio)
    require_floating("ratio_loss", boundary_fraction=boundary_fraction, mean_boundary_prob=mean_boundary_prob)
    n, f, g = target_ratio, boundary_fraction, mean_boundary_prob
    return n / (n - 1) * ((n - 1) * f * g + (1 - f) * (1 - g))
