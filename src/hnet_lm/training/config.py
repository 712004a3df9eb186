"""A training run, as its TOML file describes it: one dataclass a table, frozen, checked on construction.

`hnet_lm/configs/runs/` holds examples with every key commented, which are known by their names. Any key can be given on
the command line as well: `hnet-lm train english --optimizer.lr 1e-3`. Some keys stand for each other (`ALTERNATIVES`):
one that is given there replaces the other one of the file.
"""

import dataclasses
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hnet_lm.checkpoint import HUB_PREFIX
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, SourceConfig
from hnet_lm.errors import ConfigError
from hnet_lm.inputs import local, read_text
from hnet_lm.losses import parse_terms
from hnet_lm.named_configs import config_file, seen_from
from hnet_lm.tables import from_table, to_table
from hnet_lm.training.optimizer import OptimizerConfig
from hnet_lm.training.schedule import ScheduleConfig


@dataclass(frozen=True)
class ModelSource:
    """Where the model comes from."""

    config: str = ""
    """Architecture JSON, a path from the run file's folder or a name (`hnet_2stage_L`); its weights start fresh."""
    init_from: str = ""
    """Instead: a saved model to start from (fine-tuning), as a directory or `hf:owner/name`."""
    byte_model: str = ""
    """A saved byte model whose weights the config's entropy chunker takes."""
    freeze: tuple[str, ...] = ()
    """What is not trained: `stage:0`, or glob patterns of parameter names such as `network.encoder.*`."""

    def __post_init__(self) -> None:
        if bool(self.config) == bool(self.init_from):
            both = ", not both" if self.config else ""
            raise ConfigError(f"model: give either config (fresh weights) or init_from (a saved model){both}")
        if self.byte_model and self.init_from:
            raise ConfigError("model.byte_model: goes with config; the model of init_from has its own")


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
    statistics: Literal["rank", "global"] = "rank"
    """Boundary statistics of each rank's micro-batch (the paper's), or of all ranks' together."""
    terms: tuple[dict[str, Any], ...] = ()
    """Terms added to the loss: `[[loss.terms]]` with a name, a weight and the term's own keys."""

    def __post_init__(self) -> None:
        for key in ("target_ratios", "start_target_ratios"):
            if not all(ratio > 1 for ratio in getattr(self, key) or ()):
                raise ConfigError(f"loss.{key}: must be above 1, got {getattr(self, key)}")
        if self.start_target_ratios is not None and len(self.start_target_ratios) != len(self.target_ratios):
            raise ConfigError("loss.start_target_ratios: must have as many entries as target_ratios")
        if not self.ratio_loss_weight >= 0:
            raise ConfigError(f"loss.ratio_loss_weight: must be 0 or more, got {self.ratio_loss_weight}")
        if not 0 <= self.ramp <= 1:
            raise ConfigError(f"loss.ramp: must lie in 0 .. 1, got {self.ramp}")
        if (self.ramp_steps or 0) < 0:
            raise ConfigError(f"loss.ramp_steps: must be 0 or more, got {self.ramp_steps}")
        parse_terms(self.terms)
        if self.statistics not in ("rank", "global"):
            raise ConfigError(f"loss.statistics: must be 'rank' or 'global', got {self.statistics!r}")

    @property
    def ramps(self) -> bool:
        """Whether anything changes over the run."""
        return self.start_target_ratios is not None or self.start_ratio_loss_weight is not None


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
    accumulation: int = 1
    """Micro-batches an update: an update sees ranks x accumulation x data.tokens_per_batch positions."""
    activation_checkpointing: bool = False
    """Recompute blocks in the backward pass instead of keeping their activations: less memory, a third more time."""
    max_skipped_in_a_row: int = 10
    """Updates whose loss or gradient is not finite are skipped; after so many in a row the run stops."""

    def __post_init__(self) -> None:
        if not self.directory:
            raise ConfigError("run.directory: must name a folder")
        if (self.num_steps is None) == (self.minutes is None):
            both = ", not both" if self.minutes is not None else ""
            raise ConfigError(f"run: give either num_steps or minutes{both}")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise ConfigError(f"run.minutes: must be above 0, got {self.minutes}")
        for key in ("num_steps", "accumulation", "max_skipped_in_a_row"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ConfigError(f"run.{key}: must be at least 1, got {getattr(self, key)}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"run.precision: must be 'auto', 'float32' or 'bfloat16', got {self.precision!r}")


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
            if getattr(self, key) < 1:
                raise ConfigError(f"validation.{key}: must be at least 1, got {getattr(self, key)}")
        if not 0 <= self.hold_out < 1:
            raise ConfigError(f"validation.hold_out: must lie in 0 .. 1, below 1, got {self.hold_out}")
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
    before_decay: bool = True
    """Write one at the start of the decay as well (wsd) and keep it: a longer run can go on from it."""

    def __post_init__(self) -> None:
        for key in ("every", "keep"):
            if getattr(self, key) < 1:
                raise ConfigError(f"checkpoints.{key}: must be at least 1, got {getattr(self, key)}")


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
        if self.every < 1:
            raise ConfigError(f"logging.every: must be at least 1, got {self.every}")
        for tracker in self.trackers:
            if tracker not in ("tensorboard", "wandb", "trackio"):
                raise ConfigError(f"logging.trackers: 'tensorboard', 'wandb' or 'trackio', got {tracker!r}")


@dataclass(frozen=True)
class DistributedConfig:
    """How the ranks that torchrun started share the work."""

    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every rank has the whole model. fsdp: weights, gradients and optimizer are sharded (FSDP2)."""

    def __post_init__(self) -> None:
        if self.strategy not in ("ddp", "fsdp"):
            raise ConfigError(f"distributed.strategy: must be 'ddp' or 'fsdp', got {self.strategy!r}")


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run."""

    run: LoopConfig
    model: ModelSource
    data: DataConfig
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)

    def __post_init__(self) -> None:
        if self.run.num_steps is not None:
            self.schedule.check_length(self.run.num_steps)

    @property
    def num_steps(self) -> int:
        """Updates in all; of a run of so many minutes only once that has been planned."""
        assert self.run.num_steps is not None
        return self.run.num_steps

    @classmethod
    def load(cls, path: str | Path, given: Collection[str] = ()) -> "RunConfig":
        """From a TOML file, or by a name that comes with the package; paths of models and tokenizers are seen from it.

        `given` are keys that the command line gives a value: what the file has in their place does not count, and they
        stand in the result with any value.
        """
        path = Path(config_file(path, "runs"))
        text = read_text(path, ConfigError)
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # not TOML, a number too long, nested too deeply
            raise ConfigError(f"{path}: not TOML: {error}") from error
        try:
            config = from_table(cls, _without_alternatives(table, given))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        model, data = config.model, config.data
        paths = {key: _seen_from(path, getattr(model, key)) for key in ("init_from", "byte_model")}
        if model.config:
            paths["config"] = seen_from(path.parent, model.config, "models")
        data = dataclasses.replace(data, tokenizer=_seen_from(path, data.tokenizer))
        return dataclasses.replace(config, model=dataclasses.replace(model, **paths), data=data)

    def for_model(self, model: HNetConfig) -> "RunConfig":
        """The run with the target ratios of this architecture, where it leaves them out. Raises ConfigError."""
        num_learned = sum(chunker.learns for chunker in model.all_chunkers)
        config = self
        if not self.loss.target_ratios and num_learned:
            loss = dataclasses.replace(self.loss, target_ratios=paper_target_ratios(num_learned))
            config = dataclasses.replace(self, loss=loss)
        config.check_model(model)
        return config

    def check_model(self, model: HNetConfig) -> None:
        """Raises ConfigError where the run does not fit the architecture."""
        given, num_learned = len(self.loss.target_ratios), sum(c.learns for c in model.all_chunkers)
        if given != num_learned:
            by_rule = f", {num_learned} of them by a learned chunker" if num_learned < model.num_stages else ""
            raise ConfigError(
                f"loss.target_ratios: the model chunks {model.num_stages} times{by_rule}, but {given} are given"
            )
        for term in parse_terms(self.loss.terms):
            term.check(model)
        if model.reads_tokens != bool(self.data.tokenizer):
            raise ConfigError("data.tokenizer: goes with a model that reads tokens (`reads_tokens`), which needs it")
        asks = model.byte_model is not None
        if self.model.config and asks != bool(self.model.byte_model):
            raise ConfigError("model.byte_model: goes with a config that has an 'entropy' chunker, which needs it")

    def target_ratios(self, model: HNetConfig) -> list[float | None]:
        """Of every stage of the model that chunks; None where a rule cuts, to which the ratio loss does not apply."""
        given = iter(self.loss.target_ratios)
        return [next(given) if chunker.learns else None for chunker in model.all_chunkers]


def paper_target_ratios(num_stages: int) -> tuple[float, ...]:
    """Of a model that learns where to cut in so many stages: 6, or 3 in each of several."""
    return (6.0,) if num_stages == 1 else (3.0,) * num_stages


# Keys that stand for each other, each with a value for as long as the command line's is not known.
ALTERNATIVES: tuple[tuple[tuple[str, Any], tuple[str, Any]], ...] = (
    (("model.config", "given"), ("model.init_from", "given")),
    (("model.byte_model", None), ("model.init_from", "given")),
    (("run.num_steps", 1_000_000_000), ("run.minutes", 1.0)),
    (("validation.sources", None), ("validation.hold_out", 0.5)),
)


# Keys that may differ between a run and its resumption: they change no update.
FREE_TO_CHANGE = (
    "run.directory",
    "run.activation_checkpointing",
    "data.num_workers",
    "validation",
    "checkpoints",
    "logging",
    "distributed",
)


# Keys that can never differ, not even with `--allow-changes`: what was read, and what the weights are for.
FIXED = ("data.", "model.architecture")
NOT_FIXED = ("data.on_error",)


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a run that an earlier version saved, with the defaults of the keys that have come since."""
    source = SourceConfig("-")
    defaults = to_table(RunConfig(LoopConfig("-", 1), ModelSource("-"), DataConfig((source,))))
    found = {key: {**defaults.get(key, {}), **rows} for key, rows in saved.items() if isinstance(rows, Mapping)}
    if "data" in found:
        found["data"]["sources"] = [{**dataclasses.asdict(source), **one} for one in found["data"]["sources"]]
    return {**saved, **found, "model": saved.get("model")}


def cannot_change(difference: str) -> bool:
    """Whether a line of `differences` is about a key that stays the same for the whole of a run."""
    key = difference.partition(":")[0]
    return key.startswith(FIXED) and key not in NOT_FIXED


def differences(saved: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: saved -> now` for every key in which two runs (as nested dicts) train differently."""
    lines = []
    for key in sorted({*saved, *now}):
        name = f"{prefix}{key}"
        if name in FREE_TO_CHANGE:
            continue
        before, after = saved.get(key), now.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{name}.")
        elif before != after:
            lines.append(f"{name}: {before!r} -> {after!r}")
    return lines


def _without_alternatives(table: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The tables of a file, where a key that is given replaces the one that stands for the same."""
    for pair in ALTERNATIVES:
        for (key, value), (other, _) in (pair, pair[::-1]):
            section, _, name = key.partition(".")
            if key in given and other not in given and value is not None and isinstance(table.get(section, {}), dict):
                rows = {name_: row for name_, row in table.get(section, {}).items() if f"{section}.{name_}" != other}
                table = {**table, section: {**rows, name: value}}
    return table


def _seen_from(file: Path, path: str) -> str:
    is_local = path and not path.startswith(HUB_PREFIX)
    return str(file.parent / local(path)) if is_local else path
