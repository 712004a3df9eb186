"""The model that a run starts with, on this rank: drawn, or loaded, and divided among the ranks.

Under FSDP no rank but the first ever has the whole model, and that one only in the memory of its host: the others build
it on the meta device, shard it there, and are sent their shares. The weights are those of one process, bit for bit.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.model import HNetLM
from hnet_lm.training.activation_checkpointing import recompute_blocks
from hnet_lm.training.compilation import compile_blocks
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.freezing import adapt, freeze
from hnet_lm.training.machine import choose_precision
from hnet_lm.training.sharding import distribute, fill_shares
from hnet_lm.weights import meta_model

if TYPE_CHECKING:
    from hnet_lm.lora import Adapter


class Opened(NamedTuple):
    """What a run trains."""

    model: HNetLM
    network: nn.Module
    """What is called in its place in training."""
    precision: torch.dtype
    """Of matrix products."""
    adapter: "Adapter | None"
    """What alone is trained of the model, where that is not its own weights."""


def open_model(run: RunConfig, ranks: Ranks) -> Opened:
    """The model of a run on this rank.

    Leaves torch's random state alike on all ranks, which call this together. Raises ConfigError and CheckpointError.
    """
    precision = ranks.from_first(choose_precision(run.run.precision, ranks.device))
    torch.manual_seed(run.run.seed)
    if run.distributed.strategy == "ddp" or ranks.num_ranks == 1:
        model = _make_model(run)
        adapter = adapt(model, run.model.init_from, run.lora) if run.lora.is_on else None
        _prepare(model, run)
        model.to(ranks.device)
        return Opened(model, distribute(model, run.distributed, ranks, precision), precision, adapter)
    if run.optimizer.name == "muon":
        raise ConfigError("optimizer.name: 'muon' needs whole matrices; take distributed.strategy 'ddp'")
    whole: list[HNetLM] = []
    ranks.on_first(lambda: whole.append(_make_model(run)))
    config = ranks.from_first(whole[0].config if whole else None)
    torch.set_rng_state(ranks.from_first(torch.get_rng_state()))
    assert config is not None
    model = meta_model(config)
    _prepare(model, run)
    network = distribute(model, run.distributed, ranks, precision)
    fill_shares(model, whole.pop() if whole else None, ranks)
    return Opened(model, network, precision, None)


def _prepare(model: HNetLM, run: RunConfig) -> None:
    """Freeze, recompute and compile what the run asks for."""
    run.for_model(model.config)
    freeze(model, run.model.freeze)
    if run.run.activation_checkpointing:
        recompute_blocks(model)
    if run.run.compile:
        compile_blocks(model)


def _make_model(run: RunConfig) -> HNetLM:
    if run.model.init_from:
        return checkpoint.load(run.model.init_from, dtype=torch.float32)
    model = HNetLM(HNetConfig.load(run.model.config))
    if run.model.byte_model:
        model.load_byte_model(checkpoint.load(run.model.byte_model, dtype=torch.float32))
    if run.model.main_network:
        model.load_main_network(checkpoint.load(run.model.main_network, dtype=torch.float32))
    return model
