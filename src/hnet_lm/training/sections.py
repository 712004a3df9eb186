"""The tables of a run file but for data, optimizer and schedule, which have files of their own."""

from dataclasses import dataclass
from typing import Any, Literal

from hnet_lm.checks import require_choice, require_number, require_whole
from hnet_lm.data import SourceConfig
from hnet_lm.errors import ConfigError
from hnet_lm.losses import parse_terms


@dataclass(frozen=True)
class ModelSource:
    """Where the model comes from."""

    config: str = ""
    """Architecture JSON, a path from the run file's folder or a name (`hnet_2stage_L`); its weights start fresh."""
    init_from: str = ""
    """Instead: a saved model to start from (fine-tuning), as a directory or `hf:owner/name`."""
    byte_model: str = ""
    """A saved byte model whose weights the config's entropy chunker takes."""
    main_network: str = ""
    """A saved isotropic model whose blocks the config's innermost network starts with: of a student, the teacher."""
    freeze: tuple[str, ...] = ()
    """What is not trained: `stage:0`, or glob patterns of parameter names such as `network.encoder.*`."""

    def __post_init__(self) -> None:
        if bool(self.config) == bool(self.init_from):
            both = ", not both" if self.config else ""
            raise ConfigError(f"model: give either config (fresh weights) or init_from (a saved model){both}")
        for key in ("byte_model", "main_network"):
            if getattr(self, key) and self.init_from:
                raise ConfigError(f"model.{key}: goes with config; the model of init_from has its own")


@dataclass(frozen=True)
class LossConfig:
    """Cross entropy, the ratio loss of every stage (the paper: weight 0.03, targets 6, or 3 and 3), and more terms."""

    target_ratios: tuple[float, ...] = ()
    """N of every stage that learns where to cut, outermost first: positions per chunk that are aimed at. Left out: the
    paper's for the model's number of stages."""
    ratio_loss_weight: float = 0.03
    start_target_ratios: tuple[float, ...] | None = None
    """Where the targets start, to ramp linearly to `target_ratios`; None: there from the start."""
    start_ratio_loss_weight: float | None = None
    """Where the weight starts; None: there from the start."""
    ramp: float = 0.0
    """Fraction of the run over which both ramp."""
    ramp_steps: int | None = None
    """Steps over which both ramp, in place of the fraction."""
    ramp_after: float = 0.0
    """Fraction of the run that goes by before they ramp."""
    statistics: Literal["rank", "global"] = "rank"
    """Boundary statistics of each rank's micro-batch (the paper's), or of all ranks' together."""
    terms: tuple[dict[str, Any], ...] = ()
    """Terms added to the loss: `[[loss.terms]]` with a name, a weight and the term's own keys."""
    recipe: Literal["paper", "small"] = "paper"
    """small: what models of a few million parameters want, the `entropy` term in the place of the outermost stage's
    ratio loss. It is written out into `terms` and `ratio_loss_weight` as the run begins."""

    def __post_init__(self) -> None:
        for key in ("target_ratios", "start_target_ratios"):
            for ratio in getattr(self, key) or ():
                require_number(f"loss.{key}", ratio, above=1)
        if self.start_target_ratios is not None and len(self.start_target_ratios) != len(self.target_ratios):
            raise ConfigError("loss.start_target_ratios: must have as many entries as target_ratios")
        require_number("loss.ratio_loss_weight", self.ratio_loss_weight, 0)
        require_number("loss.ramp", self.ramp, 0, 1)
        require_number("loss.ramp_after", self.ramp_after, 0, 1)
        require_whole("loss.ramp_steps", self.ramp_steps or 0, 0)
        parse_terms(self.terms)
        require_choice("loss.recipe", self.recipe, ("paper", "small"))
        require_choice("loss.statistics", self.statistics, ("rank", "global"))

    @property
    def ramps(self) -> bool:
        """Whether anything changes over the run."""
        return self.start_target_ratios is not None or self.start_ratio_loss_weight is not None


@dataclass(frozen=True)
class LoraConfig:
    """Two thin matrices beside each linear map are trained in place of the weights of `model.init_from` (`lora`)."""

    rank: int = 0
    """Rows of the one and columns of the other; 0: the weights themselves are trained."""
    alpha: float = 16.0
    """Their product counts alpha / rank times."""
    targets: tuple[str, ...] = ("in_proj", "qkv_proj", "out_proj", "fc1", "fc2")
    """Names of the linear maps; these are all of mixers and MLPs."""

    def __post_init__(self) -> None:
        require_whole("lora.rank", self.rank, 0)
        require_number("lora.alpha", self.alpha, above=0)
        if not self.targets:
            raise ConfigError("lora.targets: must name a linear map")

    @property
    def is_on(self) -> bool:
        """Whether anything is put beside the weights."""
        return self.rank > 0


@dataclass(frozen=True)
class SuperpositionConfig:
    """A beginning on averages of the embeddings of several bytes, which predict the next several (`superposition`)."""

    bag_size: int = 1
    """Bytes that are averaged, or tokens of a model of tokens: an update then reads so many times the data. 1: none."""
    fraction: float = 0.3
    """Of the run's updates, at its beginning."""

    def __post_init__(self) -> None:
        require_whole("superposition.bag_size", self.bag_size, 1)
        require_number("superposition.fraction", self.fraction, 0, below=1)

    @property
    def is_on(self) -> bool:
        """Whether any update may be of this kind."""
        return self.bag_size > 1 and self.fraction > 0

    def num_updates(self, num_steps: int) -> int:
        """Of the updates of a run, how many are of this kind."""
        return round(self.fraction * num_steps) if self.is_on else 0

    def bag_size_at(self, step: int, num_steps: int) -> int:
        """Of an update; 1 where it is a normal one."""
        return self.bag_size if step < self.num_updates(num_steps) else 1


@dataclass(frozen=True)
class LoopConfig:
    """The run itself."""

    directory: str
    """Where everything is written; an existing run there is resumed."""
    num_steps: int | None = None
    """Optimizer updates in all."""
    minutes: float | None = None
    """Instead: how long the run may take in all, to the last checkpoint; the number of updates follows from it."""
    seed: int = 0
    """Of the weights; the order of the data has its own seed."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16: autocast with float32 weights. auto: bfloat16 where the machine has instructions for its products."""
    tf32: bool = False
    """On CUDA, products that stay in float32 are made in TF32: 10 bits of mantissa, several times as fast."""
    accumulation: int = 1
    """Micro-batches per update: an update sees ranks x accumulation x data.tokens_per_batch positions."""
    activation_checkpointing: bool = False
    """Recompute blocks in the backward pass instead of keeping their activations: less memory, a third more time."""
    compile: bool = False
    """Compile what is between the mixers of blocks with torch.compile: takes time before the first steps."""
    max_skipped_in_a_row: int = 10
    """Updates whose loss or gradient is not finite are skipped; after so many in a row the run stops."""

    def __post_init__(self) -> None:
        if not self.directory:
            raise ConfigError("run.directory: must name a folder")
        if (self.num_steps is None) == (self.minutes is None):
            both = ", not both" if self.minutes is not None else ""
            raise ConfigError(f"run: give either num_steps or minutes{both}")
        if self.minutes is not None:
            require_number("run.minutes", self.minutes, above=0)
        for key in ("num_steps", "accumulation", "max_skipped_in_a_row"):
            if getattr(self, key) is not None:
                require_whole(f"run.{key}", getattr(self, key), 1)
        require_choice("run.precision", self.precision, ("auto", "float32", "bfloat16"))


@dataclass(frozen=True)
class ValidationConfig:
    """Bits per byte on held-out documents, and a sample, now and then. No sources and nothing held out: none."""

    sources: tuple[SourceConfig, ...] = ()
    hold_out: float = 0.0
    """Instead: the fraction of the documents of `data.sources`, by a hash of each, that is not trained on but kept for
    this."""
    every: int = 1000
    """Steps between two validations; the last step always has one."""
    max_bytes: int = 1_000_000
    """Stop reading documents after so many bytes."""
    context: int = 8192
    """Bytes a piece; pieces of a document carry their state, so no context is lost."""
    sample_prompt: str = ""
    """The beginning of the text sampled after each validation."""
    sample_bytes: int = 200
    """Length of that sample; 0: none."""

    def __post_init__(self) -> None:
        for key in ("every", "max_bytes", "context"):
            require_whole(f"validation.{key}", getattr(self, key), 1)
        require_number("validation.hold_out", self.hold_out, 0, below=1)
        if self.hold_out and self.sources:
            raise ConfigError("validation: give either sources or hold_out (a fraction of data.sources), not both")

    @property
    def is_on(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.sources or self.hold_out)


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints are complete: model, optimizer, position in the data, random states."""

    every: int = 1000
    """Steps between two checkpoints; the last step, a new best validation, SIGTERM and Ctrl-C always write one."""
    keep: int = 2
    """The newest so many are kept, and the one of the best validation."""
    background: bool = False
    """Write them while the run goes on, from copies in the memory of the host."""
    before_decay: bool = True
    """Write one at the start of the decay as well (wsd) and keep it: a longer run can go on from it."""

    def __post_init__(self) -> None:
        for key in ("every", "keep"):
            require_whole(f"checkpoints.{key}", getattr(self, key), 1)


@dataclass(frozen=True)
class LoggingConfig:
    """`metrics.jsonl` is always written; trackers are additional."""

    every: int = 10
    """Steps between two records."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    project: str = "hnet-lm"
    """Project name at wandb and trackio."""
    report: bool = True
    """Whether `report.md` and `loss.png` are written when the run ends or is stopped."""

    def __post_init__(self) -> None:
        require_whole("logging.every", self.every, 1)
        for tracker in self.trackers:
            require_choice("logging.trackers", tracker, ("tensorboard", "wandb", "trackio"))


@dataclass(frozen=True)
class DistributedConfig:
    """How the ranks that torchrun started share the work."""

    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every rank has the whole model. fsdp: weights, gradients and optimizer are sharded (FSDP2)."""

    def __post_init__(self) -> None:
        require_choice("distributed.strategy", self.strategy, ("ddp", "fsdp"))
