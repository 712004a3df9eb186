"""A training run, as its TOML file describes it: one dataclass per table (`sections`), frozen, checked on construction.

`hnet_lm/configs/runs/` holds examples with every key commented, which are known by their names. Any key can be given on
the command line as well: `hnet-lm train english --optimizer.lr 1e-3`. Some keys stand for each other (`ALTERNATIVES`):
one that is given there replaces the other one of the file.
"""

import dataclasses
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hnet_lm.checkpoint import HUB_PREFIX
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig
from hnet_lm.errors import ConfigError
from hnet_lm.inputs import local, read_text
from hnet_lm.losses import LOSS_TERMS, parse_terms
from hnet_lm.named_configs import config_file, seen_from
from hnet_lm.tables import from_table
from hnet_lm.trained_models import trained_directory
from hnet_lm.training.optimizer import OptimizerConfig
from hnet_lm.training.recipes import written_out
from hnet_lm.training.schedule import ScheduleConfig
from hnet_lm.training.sections import (
    CheckpointConfig,
    DistributedConfig,
    LoggingConfig,
    LoopConfig,
    LoraConfig,
    LossConfig,
    ModelSource,
    SuperpositionConfig,
    ValidationConfig,
)


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
    superposition: SuperpositionConfig = field(default_factory=SuperpositionConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)

    def __post_init__(self) -> None:
        if self.superposition.is_on:
            self._check_superposition()
        if self.lora.is_on:
            self._check_lora()
        if self.run.num_steps is not None:
            self.schedule.check_length(self.run.num_steps)

    def _check_lora(self) -> None:
        """Raises ConfigError where the rest of the run does not go with it."""
        if not self.model.init_from:
            raise ConfigError("lora: adapts a saved model; give model.init_from, not model.config")
        if self.model.freeze:
            raise ConfigError("lora: the weights of the model are already frozen; leave out model.freeze")
        if self.optimizer.name == "muon":
            raise ConfigError("lora: works only with AdamW; leave out optimizer.name")
        if self.optimizer.average:
            raise ConfigError("lora: no averages are kept of the thin matrices; leave out optimizer.average")
        if self.distributed.strategy == "fsdp":
            raise ConfigError("lora: needs whole matrices; take distributed.strategy 'ddp'")

    def _check_superposition(self) -> None:
        """Raises ConfigError where the rest of the run does not go with it."""
        bag_size, max_length = self.superposition.bag_size, self.data.max_length
        if bag_size > max_length:
            raise ConfigError(f"superposition.bag_size: {bag_size} is more than a sequence has (data.max_length)")
        if self.run.minutes is not None:
            raise ConfigError("superposition: lasts a fraction of the run's steps; give run.num_steps, not run.minutes")
        if self.loss.terms:
            raise ConfigError("superposition: goes with the cross entropy alone; leave out loss.terms")
        if self.distributed.strategy == "fsdp":
            raise ConfigError("superposition: the model is called in parts; take distributed.strategy 'ddp'")

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
        paths = {key: _seen_from(path, getattr(model, key)) for key in ("init_from", "byte_model", "main_network")}
        if model.config:
            paths["config"] = seen_from(path.parent, model.config, "models")
        data = dataclasses.replace(data, tokenizer=_seen_from(path, data.tokenizer))
        loss = dataclasses.replace(config.loss, terms=tuple(_term_seen_from(path, term) for term in config.loss.terms))
        return dataclasses.replace(config, model=dataclasses.replace(model, **paths), data=data, loss=loss)

    def for_model(self, model: HNetConfig) -> "RunConfig":
        """The run with the target ratios of this architecture, where it leaves them out, and with its recipe written
        out. Raises ConfigError."""
        num_learned = sum(chunker.learns for chunker in model.all_chunkers)
        config = self
        if not self.loss.target_ratios and num_learned:
            loss = dataclasses.replace(self.loss, target_ratios=paper_target_ratios(num_learned))
            config = dataclasses.replace(self, loss=loss)
        config = dataclasses.replace(config, loss=written_out(config.loss))
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
        terms = parse_terms(self.loss.terms)
        for term in terms:
            term.check(model)
        names = {LOSS_TERMS.name_of(type(term)) for term in terms}
        for chunker in model.all_chunkers:
            if missing := [name for name in chunker.needs_terms if name not in names]:
                raise ConfigError(f"loss.terms: the chunker {chunker.name!r} learns by {', '.join(missing)}; add them")
        if model.reads_tokens != bool(self.data.tokenizer):
            raise ConfigError("data.tokenizer: goes with a model that reads tokens (`reads_tokens`), which needs it")
        if self.superposition.is_on and model.num_stages:
            raise ConfigError("superposition: goes with a model that does not chunk: averaged bytes cannot be cut")
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
    (("model.main_network", None), ("model.init_from", "given")),
    (("run.num_steps", 1_000_000_000), ("run.minutes", 1.0)),
    (("validation.sources", None), ("validation.hold_out", 0.5)),
)


def _without_alternatives(table: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The tables of a file, where a key that is given replaces the one that stands for the same."""
    for pair in ALTERNATIVES:
        for (key, value), (other, _) in (pair, pair[::-1]):
            section, _, name = key.partition(".")
            if key in given and other not in given and value is not None and isinstance(table.get(section, {}), dict):
                rows = {name_: row for name_, row in table.get(section, {}).items() if f"{section}.{name_}" != other}
                table = {**table, section: {**rows, name: value}}
    return table


def _term_seen_from(file: Path, term: dict[str, Any]) -> dict[str, Any]:
    """With the paths of what teaches."""
    paths = {key: _seen_from(file, term[key]) for key in ("teacher", "cache") if isinstance(term.get(key), str)}
    return term | paths


def _seen_from(file: Path, path: str) -> str:
    if not path or path.startswith(HUB_PREFIX):
        return path
    here = file.parent / local(path)
    return path if not here.exists() and trained_directory(path) else str(here)
