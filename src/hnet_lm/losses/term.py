"""Terms that are added to the next-byte loss in training, each with a weight: `[[loss.terms]]` of a run file.

    [[loss.terms]]
    name = "my_module:Sharpness"
    weight = 0.01

A term sees one micro-batch and what the model made of it, and gives named numbers. Their sum times the weight is added
to the loss, and each is a key of the metrics.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.model.dynamic_chunking import Routing
from hnet_lm.registry import Kind
from hnet_lm.sequences import Sequences


@dataclass(frozen=True, eq=False)
class LossInputs:
    """A micro-batch of this rank, and what the model made of it."""

    logits: Float[Tensor, "t v"]
    targets: Int[Tensor, " t"]
    """The byte after each position; `IGNORE_INDEX` where there is none to be guessed."""
    hidden: Float[Tensor, "t d"]
    """What the head reads."""
    routings: tuple[Routing, ...]
    """One per stage that chunks, outermost first; an inner one has a position per chunk of the stage around it."""
    seqs: Sequences
    """How the positions divide into sequences, with the bytes at them (`seqs.input_ids`)."""
    progress: float = 0.0
    """The fraction of the run's updates that are done: for what changes in the course of a run."""
    memory: Mapping[str, float] = field(default_factory=dict)
    """What the term carries from update to update (`LossTerm.remember`)."""
    num_ranks: int = 1
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda x: x
    """The sum of a tensor of all ranks, without gradient; all ranks must call it together."""

    def routing(self, stage: int) -> Routing:
        """That of a stage. Raises ConfigError where the model does not chunk so often."""
        if not 0 <= stage < len(self.routings):
            raise ConfigError(f"loss.terms: there is no stage {stage}; the model chunks {len(self.routings)} times")
        return self.routings[stage]


@dataclass(frozen=True)
class LossTerm(ABC):
    """A term of the training loss: its keys are the fields, and `values` computes it."""

    reads_progress: ClassVar[bool] = True
    """Whether it looks at `LossInputs.progress`. Then a run of `run.minutes` settles its length before it begins."""

    weight: float = field(default=1.0, kw_only=True)
    """What it is multiplied by, as it is added to the loss."""

    @abstractmethod
    def values(self, inputs: LossInputs) -> Mapping[str, Float[Tensor, ""]]:
        """Numbers by their key in the metrics, `loss/NAME` or `stageS/NAME`; the same keys in every call.

        Means over positions, so that the loss does not grow with the batch; what the gradient must not pass is
        detached.
        """

    def check(self, model: HNetConfig) -> None:  # noqa: B027 - to be overridden by those that do not fit every model
        """Raises ConfigError where the term does not fit a model; asked before a run begins."""

    def new_memory(self) -> dict[str, float]:
        """What the first update finds in `LossInputs.memory`. A term that carries nothing has none."""
        return {}

    def remember(self, memory: Mapping[str, float], boundary_fractions: Sequence[float]) -> dict[str, float]:
        """What the next update finds, after one in which this fraction of each stage's positions were boundaries, over
        all micro-batches and ranks. It is saved with every checkpoint, so that a run goes on exactly."""
        return dict(memory)


LOSS_TERMS: Kind[LossTerm] = Kind(
    "loss term",
    "hnet_lm.losses.term:LossTerm",
    "hnet_lm.loss_terms",
    {
        "ratio": "hnet_lm.losses.ratio:RatioLoss",
        "cab": "hnet_lm.losses.cab:ConfidenceAlignment",
        "early_exit": "hnet_lm.losses.early_exit:EarlyExit",
        "entropy": "hnet_lm.losses.entropy:EntropyBoundaries",
        "hinge": "hnet_lm.losses.hinge:Hinge",
        "policy": "hnet_lm.losses.policy:PolicyGradient",
        "rate_control": "hnet_lm.losses.rate_control:RateControl",
        "target_rate": "hnet_lm.losses.target_rate:TargetRate",
        "teacher_bytes": "hnet_lm.distillation.terms:TeacherBytes",
        "token_boundaries": "hnet_lm.distillation.terms:TokenBoundaries",
    },
    ConfigError,
)


def parse_terms(entries: Sequence[Any]) -> tuple[LossTerm, ...]:
    """The terms that a run file adds. Raises ConfigError."""
    return tuple(LOSS_TERMS.parse(entry, f"loss.terms[{i}]") for i, entry in enumerate(entries))


def require_learned(model: HNetConfig, stage: int, name: str) -> None:
    """Raises ConfigError unless the model learns where to cut this stage."""
    if not 0 <= stage < model.num_stages:
        raise ConfigError(f"loss.terms: {name!r} is for stage {stage}, and the model chunks {model.num_stages} times")
    if not model.chunker(stage).learns:
        raise ConfigError(f"loss.terms: {name!r} is for stage {stage}, which a rule cuts: there is nothing to steer")


def require_needed_by_chunker(model: HNetConfig, name: str) -> None:
    """Raises ConfigError unless the outermost chunker is one that this term trains."""
    if not model.num_stages or name not in model.chunker(0).needs_terms:
        raise ConfigError(f"loss.terms: {name!r} trains a chunker that draws its boundaries, such as 'policy'")


def require_given(tensor: Tensor | None, name: str) -> Tensor:
    """What the chunker gives in training alone. Raises ConfigError where it has not."""
    if tensor is None:
        raise ConfigError(f"loss.terms: {name!r} needs what the chunker gives in training; call model.train() first")
    return tensor


@dataclass(frozen=True)
class TermValue:
    """One number of one term."""

    key: str
    weight: float
    value: Float[Tensor, ""]


def term_values(
    terms: Sequence[LossTerm], inputs: LossInputs, memories: Sequence[Mapping[str, float]] | None = None
) -> list[TermValue]:
    """The numbers of all terms, in order; `memories` has one per term, None: new ones.

    Raises ConfigError for a key that is no metric's, or that two terms have.
    """
    found: dict[str, TermValue] = {}
    for term, memory in zip(terms, memories or [term.new_memory() for term in terms], strict=True):
        for key, value in term.values(replace(inputs, memory=memory)).items():
            if "/" not in key or key in found:
                problem = "is the key of another term too" if key in found else "must be like loss/NAME or stageS/NAME"
                raise ConfigError(f"loss.terms: {key!r} of {type(term).__name__} {problem}")
            if value.dim():
                shape = tuple(value.shape)
                raise ConfigError(f"loss.terms: {key!r} of {type(term).__name__} must be one number, not {shape}")
            found[key] = TermValue(key, term.weight, value)
    return list(found.values())
