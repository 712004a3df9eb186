"""Layer counts and widths with which a family costs as many FLOPs per byte as a given model.

The cost is `model/flops.py`'s, at the bytes per chunk or token that the family really makes. Of all widths and layer
counts within the tolerance the one is taken that is most like the model: by the factor between their widths times that
between the widths of their MLPs and the rule's; among those the nearest in cost. Where none is near enough, which
happens to small models, the outer networks may be half as deep.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from hnet_lm.baselines.families import OUTER, Choice, Cutting, Family, build, outer_layouts, preferred_width, width_step
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.model.flops import total_flops_per_byte

TOLERANCE = 0.02
MAX_LAYERS = 200
WIDTH_RANGE = (0.5, 2.0)  # of the preferred width
MLP_SCALES = (1.0, 0.875, 1.125, 0.75, 1.25)


@dataclass(frozen=True)
class Match:
    """A configuration of a family and what it costs."""

    config: HNetConfig
    bytes_per_chunk: tuple[float, ...]
    """Of every stage that chunks; of a model of tokens none."""
    flops_per_byte: float
    """Of a forward pass."""
    target: float

    @property
    def ratio(self) -> float:
        """Its cost over that of the model it is matched to."""
        return self.flops_per_byte / self.target


def match(
    family: Family,
    reference: HNetConfig,
    target: float,
    sequence_length: int,
    *,
    bytes_per_chunk: Sequence[float] = (),
    bytes_per_token: float = 1.0,
    cutting: Cutting | None = None,
    vocab_size: int | None = None,
    tolerance: float = TOLERANCE,
) -> Match:
    """The family's member that costs `target` FLOPs per byte. `reference` gives the manner (see `families.build`).

    `sequence_length` is in bytes. Raises ConfigError where no member comes within the tolerance.
    """
    preferred = preferred_width(family, reference)
    nearest = math.inf
    for outer in outer_layouts(reference):
        within: list[tuple[float, float, Match]] = []
        for scale, width in itertools.product(MLP_SCALES, _widths(family, reference)):
            for num_layers in range(1, MAX_LAYERS + 1):
                choice = Choice(width, num_layers, outer, scale)
                config = build(family, reference, choice, cutting=cutting, vocab_size=vocab_size)
                flops = total_flops_per_byte(config, sequence_length, bytes_per_chunk, bytes_per_token)
                error = abs(flops / target - 1)
                nearest = min(nearest, error)
                if error <= tolerance:
                    found = Match(config, tuple(bytes_per_chunk), flops, target)
                    within.append((abs(math.log(width / preferred)) + abs(math.log(scale)), error, found))
                if flops > target:
                    break
        if within:
            return min(within, key=lambda rank: rank[:2])[2]
    raise ConfigError(
        f"{family.title}: no width and layer count costs {target:.4g} FLOPs per byte within {tolerance:.1%} "
        f"(the nearest is off by {nearest:.1%}); allow more with --tolerance"
    )


def _widths(family: Family, reference: HNetConfig) -> list[int]:
    step, preferred = width_step(family, reference), preferred_width(family, reference)
    first, last = (preferred * factor for factor in WIDTH_RANGE)
    if OUTER in family.layout:
        first = reference.stages[0].d_model  # stages do not become narrower inwards
    return [step * i for i in range(max(1, math.ceil(first / step)), math.floor(last / step) + 1)]
