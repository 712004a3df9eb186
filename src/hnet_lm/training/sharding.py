"""How the ranks of a run share its model: DDP copies it, FSDP2 shards weights, gradients and moments.

Chunk counts differ between ranks, and nothing depends on them: every rank runs the same modules once a micro-batch,
with as many rows as it has.

Both strategies train the same model. In bfloat16 autocast rounds the weights of linear maps, and no others. FSDP
gathers those in bfloat16 and all others (norms, convolutions, A_log, dt_bias, D, the embedding, pad vectors, residual
projections) in float32:

    the matrices of a block         a group of their own, gathered for the block, forward and backward
    every other linear map          a group each
    all else                        the root's group, whole from the first block to the last: it is small
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from hnet_lm.model.block import Block
from hnet_lm.model.layers import Float32Linear
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.sections import DistributedConfig

REDUCED_IN = torch.float32
"""Gradients are summed over ranks in this type, as DDP does."""


def distribute(model: nn.Module, config: DistributedConfig, ranks: Ranks, precision: torch.dtype) -> nn.Module:
    """What to call instead of the model. FSDP2 shards the model itself in place; DDP wraps it."""
    if ranks.num_ranks == 1:
        return model
    if config.strategy == "fsdp":
        return shard(model, precision)
    return DistributedDataParallel(model, device_ids=[ranks.device] if ranks.device.type == "cuda" else None)


def shard(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """Replace every parameter by this rank's share of it."""
    for modules, dtype in groups_of(model, precision):
        # Inputs are not cast: the residual stream enters a block in float32 and leaves it so.
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=REDUCED_IN, cast_forward_inputs=False)
        fully_shard(modules, mp_policy=policy, reshard_after_forward=modules[0] is not model)
    return model


def groups_of(model: nn.Module, precision: torch.dtype) -> Iterator[tuple[list[nn.Module], torch.dtype]]:
    """Modules whose parameters are gathered together, innermost first, and the type in which they are.

    The maps of a block are called one after the other, so the group is whole when the gradient reaches the last of
    them. Others need not be, and are groups of their own.
    """
    in_blocks: set[nn.Module] = set()
    for block in model.modules():
        if isinstance(block, Block):
            maps: list[nn.Module] = [module for module in block.modules() if isinstance(module, nn.Linear)]
            in_blocks.update(maps)
            yield maps, precision
    for module in model.modules():
        if isinstance(module, nn.Linear) and module not in in_blocks:
            yield [module], torch.float32 if isinstance(module, Float32Linear) else precision
    yield [model], torch.float32


def fill_shares(model: nn.Module, whole: nn.Module | None, ranks: Ranks) -> None:
    """Give a sharded model on the meta device its weights: those of a whole model that the first rank has.

    They are sent one at a time, so beside its share a rank needs memory for one parameter. All ranks call this
    together.
    """
    model.to_empty(device=ranks.device)
    weights = {} if whole is None else whole.state_dict()
    set_model_state_dict(
        model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=ranks.num_ranks > 1)
    )


@contextlib.contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Within the block every rank has all weights, in the types in which they are gathered, and calls the model by
    itself: as often as it likes, on whatever it likes. All ranks enter and leave together.
    """
    groups = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for group in groups:
        group.set_reshard_after_forward(False, recurse=False)
        group.unshard()
    try:
        yield
    finally:
        for group in groups:
            group.reshard()
            group.set_reshard_after_forward(group is not model, recurse=False)


@contextlib.contextmanager
def gradients_stay_local(model: nn.Module, stay: bool) -> Iterator[None]:
    """While accumulating, all micro-batches but the last keep their gradients on their rank."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(not stay)
        yield
    elif isinstance(model, DistributedDataParallel) and stay:
        with model.no_sync():
            yield
    else:
        yield
