"""Averaged weights: an exponential moving average of what the optimizer makes, which is measured and published.

    average <- decay average + (1 - decay) weights      after every update n, with decay at most (1 + n) / (10 + n)

so the first updates, in which the weights move most, are soon forgotten. Training itself never sees the averages. They
are in every checkpoint beside the weights. Frozen parameters have none.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

AVERAGES = "averaged.safetensors"


class AveragedWeights:
    """The averages of a model's trained parameters; under FSDP, of this rank's share."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = [_local(weight) for weight in model.parameters() if weight.requires_grad]
        self._averages = [weight.clone() for weight in self._weights]

    def begin(self) -> None:
        """Take the weights as they are for the averages."""
        _copy(self._weights, self._averages)

    def update(self, num_updates: int) -> None:
        """After so many updates, the last one included."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        with torch.no_grad():
            for average, weight in zip(self._averages, self._weights, strict=True):
                average.lerp_(weight, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model has the averages for its weights."""
        weights = [weight.clone() for weight in self._weights]
        _copy(self._averages, self._weights)
        try:
            yield
        finally:
            _copy(weights, self._weights)


def _local(parameter: nn.Parameter) -> Tensor:
    weight = parameter.detach()
    return weight.to_local() if isinstance(weight, DTensor) else weight


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    with torch.no_grad():
        for to, tensor in zip(target, source, strict=True):
            to.copy_(tensor)
