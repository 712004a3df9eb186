"""Muon for the matrices of the blocks, AdamW for everything else (Jordan et al., 2024; Liu et al., arXiv 2502.16982).

An update of a matrix is its momentum, made orthogonal by five steps of Newton-Schulz, and scaled to the size that
AdamW's updates have: so rates, weight decay and the multipliers of the stages mean for it what they mean for AdamW.
"""

from collections.abc import Iterator
from typing import Any

import torch


class MuonWithAdamW:
    """Two optimizers that are called as one."""

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        self.muon = muon
        self.adamw = adamw

    def __iter__(self) -> Iterator[torch.optim.Optimizer]:
        """The two, as torch.distributed.checkpoint takes several."""
        return iter((self.muon, self.adamw))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [*self.muon.param_groups, *self.adamw.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        for optimizer in self:
            optimizer.step()


Optimizer = torch.optim.Optimizer | MuonWithAdamW


def optimizers_of(optimizer: Optimizer) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers that it is made of."""
    return tuple(optimizer) if isinstance(optimizer, MuonWithAdamW) else (optimizer,)


def is_for_muon(name: str, parameter: torch.nn.Parameter) -> bool:
    """Whether this is a matrix of a block: of a mixer or an MLP, not of a routing module, an embedding or the head."""
    return parameter.dim() == 2 and (".mixer." in name or ".mlp." in name)
