"""Next-byte cross entropy, which every model is trained by; what is added to it are terms (`term.py`)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from hnet_lm.ops.checks import WHOLE_NUMBERS, require_floating, require_plain
from hnet_lm.sequences import IGNORE_INDEX


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
    if (
        targets.device.type == "cpu"
        and ((targets != IGNORE_INDEX) & ((targets < 0) | (targets >= logits.shape[-1]))).any()
    ):
        raise ValueError(f"next_byte_loss: targets must be {IGNORE_INDEX} or 0 to {logits.shape[-1] - 1}")
    wide = torch.promote_types(logits.dtype, torch.float32)
    return cross_entropy(
        logits.flatten(0, -2).to(wide), targets.flatten(), ignore_index=IGNORE_INDEX, reduction=reduction
    )


def _are_ids(targets: Tensor, vocab_size: int) -> bool:
    """Whether each is an id or `IGNORE_INDEX`."""
    return bool(((targets == IGNORE_INDEX) | (targets >= 0) & (targets < vocab_size)).all())
