"""The model that a run starts with, on this rank: drawn, or loaded, and divided among the ranks.

Under FSDP no rank but the first ever has the whole model, and that one only in the memory of its host: the others build
it on the meta device, shard it there, and are sent their shares. The weights are those of one process, bit for bit.
"""

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
from hnet_lm.training.freezing import freeze
from hnet_lm.training.machine import choose_precision
from hnet_lm.training.sharding import distribute, fill_shares
from hnet_lm.weights import meta_model


def open_model(run: RunConfig, ranks: Ranks) -> tuple[HNetLM, nn.Module, torch.dtype]:
    """The model, what is called in its place in training, and the type of its matrix products.

    Leaves torch's random state alike on all ranks, which call this together. Raises ConfigError and CheckpointError.
    """
    precision = ranks.from_first(choose_precision(run.run.precision, ranks.device))
    torch.manual_seed(run.run.seed)
    if run.distributed.strategy == "ddp" or ranks.num_ranks == 1:
        model = _prepared(_make_model(run), run)
        model.to(ranks.device)
        return model, distribute(model, run.distributed, ranks, precision), precision
    if run.optimizer.name == "muon":
        raise ConfigError("optimizer.name: 'muon' needs whole matrices; take distributed.strategy 'ddp'")
    whole: list[HNetLM] = []
    ranks.on_first(lambda: whole.append(_make_model(run)))
    config = ranks.from_first(whole[0].config if whole else None)
    torch.set_rng_state(ranks.from_first(torch.get_rng_state()))
    assert config is not None
    model = _prepared(meta_model(config), run)
    network = distribute(model, run.distributed, ranks, precision)
    fill_shares(model, whole.pop() if whole else None, ranks)
    return model, network, precision


def _prepared(model: HNetLM, run: RunConfig) -> HNetLM:
    """With what is frozen, what is recomputed, and what is compiled."""
    run.for_model(model.config)
    freeze(model, run.model.freeze)
    if run.run.activation_checkpointing:
        recompute_blocks(model)
    if run.run.compile:
        compile_blocks(model)
    return model


def _make_model(run: RunConfig) -> HNetLM:
    if run.model.init_from:
        return checkpoint.load(run.model.init_from, dtype=torch.float32)
    model = HNetLM(HNetConfig.load(run.model.config))
    if run.model.byte_model:
        model.load_byte_model(checkpoint.load(run.model.byte_model, dtype=torch.float32))
    if run.model.main_network:
        model.load_main_network(checkpoint.load(run.model.main_network, dtype=torch.float32))
    return model
