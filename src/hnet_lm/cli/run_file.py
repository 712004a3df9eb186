"""A run file for a model that was matched to another: the same data, batches and schedule, in keys of its own."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, SourceConfig
from hnet_lm.data.samples import SAMPLE_PREFIX
from hnet_lm.extras import import_leaf
from hnet_lm.model.dynamic_chunking.chunkers.pool import PoolChunkerConfig
from hnet_lm.training.config import RunConfig, paper_target_ratios
from hnet_lm.training.optimizer import OptimizerConfig, lr_multipliers
from hnet_lm.training.sections import LoopConfig, LossConfig, ModelSource, ValidationConfig

NUM_STEPS = 1000
TOKENS_PER_BATCH = 8192


def plain_run(text: str, sequence_length: int) -> RunConfig:
    """A run on a source of text, for a model without a known run."""
    held_out = (SourceConfig(text, split="validation"),) if text.startswith(SAMPLE_PREFIX) else ()
    return RunConfig(
        LoopConfig(directory="runs/NAME", num_steps=NUM_STEPS),
        ModelSource(config="MODEL.json"),
        DataConfig(
            (SourceConfig(text),), tokens_per_batch=max(TOKENS_PER_BATCH, sequence_length), max_length=sequence_length
        ),
        validation=ValidationConfig(held_out),
    )


def matched_run(
    run: RunConfig,
    config: HNetConfig,
    *,
    config_path: str,
    directory: str,
    bytes_per_chunk: Sequence[float],
    tokenizer: str = "",
    byte_model: str = "",
) -> RunConfig:
    """The run with another model. Paths are written as they are given."""
    num_learned = sum(chunker.learns for chunker in config.all_chunkers)
    loss = run.loss
    if num_learned != len(loss.target_ratios):
        loss = LossConfig(paper_target_ratios(num_learned) if num_learned else (), loss.ratio_loss_weight)
    matched = RunConfig(
        dataclasses.replace(run.run, directory=directory),
        ModelSource(config=config_path, byte_model=byte_model),
        dataclasses.replace(run.data, tokenizer=tokenizer),
        loss,
        dataclasses.replace(run.optimizer, lr_multipliers=_multipliers(run.optimizer, config, bytes_per_chunk)),
        run.schedule,
        run.validation,
        run.checkpoints,
        run.logging,
        run.distributed,
    )
    matched.check_model(config)
    return matched


def to_toml(run: RunConfig, heading: str) -> str:
    """The run file, without the keys that have their default, under a heading in comments. Raises UserError."""
    toml = import_leaf("hnet_lm.cli.toml_text", "eval", "writing a run file")
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    return f"{comment}\n{toml.to_text(_written(run))}"


def _multipliers(
    optimizer: OptimizerConfig, config: HNetConfig, bytes_per_chunk: Sequence[float]
) -> tuple[float, ...] | None:
    """Of each stage: those of the run where they fit, else the paper's formula (None); SpaceByte has none."""
    num_stages = len(config.stages)
    if config.spacebyte:
        return (1.0,) * num_stages
    if optimizer.lr_multipliers is not None and len(optimizer.lr_multipliers) == num_stages:
        return optimizer.lr_multipliers
    chunkers = config.all_chunkers
    if chunkers and not chunkers[0].learns and chunkers[0].nominal_ratio is None:
        # the formula asks for positions per chunk, which this rule has only by measure: as cut every so many bytes
        pool = PoolChunkerConfig.for_ratio(bytes_per_chunk[0])
        as_pool = dataclasses.replace(config, chunkers=(pool, *chunkers[1:]), byte_model=None)
        return tuple(round(multiplier, 4) for multiplier in lr_multipliers(as_pool, ()))
    return None


def _written(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if value is not None and value != default and (table := _plain(value)) != {}:
            found[field.name] = table
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _written(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
