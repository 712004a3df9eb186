"""The terms of the training loss: next-byte cross entropy, and the ratio loss that steers how often a stage cuts."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from hnet_lm.model.dynamic_chunking import Routing
from hnet_lm.ops.checks import WHOLE_NUMBERS, require_floating, require_plain

IGNORE = -100


def next_byte_loss(
    logits: Float[Tensor, "*t v"], targets: Int[Tensor, "*t"], reduction: str = "mean"
) -> Float[Tensor, "..."]:
    """Cross entropy in nats of the target byte at each position; targets of -100 do not count.

    Raises ValueError for targets that are not one whole number per position, -100 or below v.
    """
    require_floating("next_byte_loss", logits=logits)
    require_plain("next_byte_loss", "targets", targets)
    if targets.dtype not in WHOLE_NUMBERS or targets.device != logits.device:
        raise ValueError(f"next_byte_loss: targets must be whole numbers on {logits.device}, not {targets.dtype}")
    if not logits.dim() or targets.shape != logits.shape[:-1]:
        shapes = f"{tuple(targets.shape)}, but logits {tuple(logits.shape)}"
        raise ValueError(f"next_byte_loss: targets are {shapes}; there must be one per position")
    targets = targets.to(torch.int64)
    if targets.device.type == "cpu" and ((targets != IGNORE) & ((targets < 0) | (targets >= logits.shape[-1]))).any():
        raise ValueError(f"next_byte_loss: targets must be {IGNORE} or 0 to {logits.shape[-1] - 1}")
    wide = torch.promote_types(logits.dtype, torch.float32)
    return cross_entropy(logits.flatten(0, -2).to(wide), targets.flatten(), ignore_index=IGNORE, reduction=reduction)


def ratio_loss(routing: Routing, target_ratio: float) -> Float[Tensor, ""]:
    """N/(N-1) ((N-1) F G + (1-F)(1-G)): F the fraction of boundaries (without gradient), G the mean probability.

    Equal to 1 where both are 1/N. `target_ratio` N > 1 is the positions a chunk that are aimed at.
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
