"""Terms that are added to the next-byte loss in training, each with a weight: `[[loss.terms]]` of a run file.

    [[loss.terms]]
    name = "my_module:Sharpness"
    weight = 0.01

A term sees one micro-batch and what the model made of it, and gives named numbers. Their sum times the weight is added
to the loss, and each is a key of the metrics.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from hnet_lm.errors import ConfigError
from hnet_lm.model.dynamic_chunking import Routing
from hnet_lm.registry import Kind
from hnet_lm.sequences import Sequences


@dataclass(frozen=True, eq=False)
class LossInputs:
    """A micro-batch of this rank, and what the model made of it."""

    logits: Float[Tensor, "t v"]
    targets: Int[Tensor, " t"]
    """The byte after each position; `IGNORE` where there is none to be guessed."""
    hidden: Float[Tensor, "t d"]
    """What the head reads."""
    routings: tuple[Routing, ...]
    """One per stage that chunks, outermost first; an inner one has a position per chunk of the stage around it."""
    seqs: Sequences
    """How the positions divide into sequences, with the bytes at them (`seqs.input_ids`)."""
    progress: float = 0.0
    """The fraction of the run's updates that are done: for what changes in the course of a run."""
    num_ranks: int = 1
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda x: x
    """The sum of a tensor of all ranks, without gradient; all ranks must call it together."""


@dataclass(frozen=True)
class LossTerm(ABC):
    """A term of the training loss: its keys are the fields, and `values` computes it."""

    weight: float = field(default=1.0, kw_only=True)
    """What it is multiplied by, as it is added to the loss."""

    @abstractmethod
    def values(self, inputs: LossInputs) -> Mapping[str, Float[Tensor, ""]]:
        """Numbers by their key in the metrics, `loss/NAME` or `stageS/NAME`; the same keys in every call.

        Means over positions, so that the loss does not grow with the batch; what the gradient must not pass is
        detached.
        """


LOSS_TERMS: Kind[LossTerm] = Kind(
    "loss term",
    "hnet_lm.losses.term:LossTerm",
    "hnet_lm.loss_terms",
    {"ratio": "hnet_lm.losses.ratio:RatioLoss"},
    ConfigError,
)


def parse_terms(entries: Sequence[Any]) -> tuple[LossTerm, ...]:
    """The terms that a run file adds. Raises ConfigError."""
    return tuple(LOSS_TERMS.parse(entry, f"loss.terms[{i}]") for i, entry in enumerate(entries))


@dataclass(frozen=True)
class TermValue:
    """One number of one term."""

    key: str
    weight: float
    value: Float[Tensor, ""]


def term_values(terms: Sequence[LossTerm], inputs: LossInputs) -> list[TermValue]:
    """The numbers of all terms, in order. Raises ConfigError for a key that is no metric's, or that two terms have."""
    found: dict[str, TermValue] = {}
    for term in terms:
        for key, value in term.values(inputs).items():
            name = LOSS_TERMS.name_of(type(term))
            if "/" not in key or key in found:
                problem = "is the key of another term too" if key in found else "must be like loss/NAME or stageS/NAME"
                raise ConfigError(f"loss.terms: {key!r} of {name!r} {problem}")
            if value.dim():
                raise ConfigError(f"loss.terms: {key!r} of {name!r} must be one number, not {tuple(value.shape)}")
            found[key] = TermValue(key, term.weight, value)
    return list(found.values())
