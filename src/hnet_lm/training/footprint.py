"""What a run takes on each rank, before it is started: memory, bytes over the network, FLOPs.

Memory is that of the moment in which most is held. Weights, moments and averages are always there. In the forward pass
activations come in, and in the backward pass gradients come while activations go:

    peak = always + max over blocks of (activations still held + gradients so far + what the block works with)

A block works with about as much as it keeps for its backward pass, and has that as well where it is computed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import FORWARD_AND_BACKWARD, total_flops_per_byte
from hnet_lm.training.activations import BlockCost, block_costs, bytes_around_blocks
from hnet_lm.training.config import RunConfig
from hnet_lm.training.freezing import adapt, freeze
from hnet_lm.training.muon import is_for_muon
from hnet_lm.weights import meta_model

WIDE = 4
"""Bytes of a number in float32: of weights, gradients and moments."""
BYTES_PER_BUFFERED_BYTE = 1.3
"""A shuffle buffer holds a byte as one, and beside it 200 bytes for each document; of one kilobyte or more, about."""


@dataclass(frozen=True)
class Footprint:
    """Of one rank; sizes in bytes."""

    num_ranks: int
    weights: int
    gradients: int
    moments: int
    averages: int
    gathered: int
    """FSDP: weights of other ranks that are held at once. DDP: weights that autocast rounded, kept until the backward
    pass, and the buckets in which gradients travel."""
    activations: int
    """Without recomputing blocks."""
    recomputed_activations: int
    """With `run.activation_checkpointing`."""
    recomputes: bool
    peak: int
    """As the run file has it."""
    data: int
    """Of the host: shuffle buffers."""
    network_per_step: int
    """Bytes that a rank sends in an update."""
    positions_per_step: int
    """Of all ranks."""
    flops_per_step: float
    """Of all ranks, forward and backward; what is recomputed does not count."""

    def seconds_per_step(self, peak_flops: float, utilization: float) -> float:
        """At a share of each GPU's peak."""
        return self.flops_per_step / (self.num_ranks * peak_flops * utilization)


def footprint(
    run: RunConfig, config: HNetConfig, bytes_per_chunk: Sequence[float], precision: torch.dtype, num_ranks: int
) -> Footprint:
    """What `run` takes with this architecture on so many ranks; chunks are assumed to be so long.

    A model of tokens is taken to have one per byte, which is more than it has.
    """
    is_sharded = run.distributed.strategy == "fsdp" and num_ranks > 1
    sizes = _sizes(run, config, num_ranks if is_sharded else 1)
    sizes_of_positions = (1.0, *bytes_per_chunk)
    blocks = block_costs(config, precision, [run.data.max_length / size for size in sizes_of_positions])
    rows = [run.data.tokens_per_batch / size for size in sizes_of_positions]
    around = sum(size * num for size, num in zip(bytes_around_blocks(config, precision), rows, strict=True))
    accumulates = run.run.accumulation > 1
    is_rounded = precision != torch.float32
    rounded = precision.itemsize * sum(block.num_rounded for block in blocks) if is_rounded else 0
    if is_sharded:
        of_block = max(precision.itemsize * block.num_rounded for block in blocks)
        root = WIDE * (sizes.num_parameters - sum(block.num_rounded for block in blocks))
        gathered = 2 * of_block + root
    else:
        gathered = rounded + (WIDE * sizes.num_trained if num_ranks > 1 else 0)
    whole_gradients = WIDE * sizes.num_trained
    gradients = whole_gradients if accumulates else WIDE * sizes.trained_share
    held = [block.bytes_per_position * rows[block.stage] for block in blocks]
    inputs = [block.input_bytes * rows[block.stage] for block in blocks]
    recomputes = run.run.activation_checkpointing
    kept, working = (inputs, [2 * each for each in held]) if recomputes else (held, held)
    always = WIDE * (sizes.share + sizes.moments_share + sizes.averages_share) + gathered
    travelling = _backward_peak(
        blocks, kept, working, around, 0 if accumulates else WIDE / (num_ranks if is_sharded else 1)
    )
    peak = always + (gradients if accumulates else 0) + travelling
    streams = run.data.streams // gcd(run.data.streams, num_ranks)
    positions = num_ranks * run.run.accumulation * run.data.tokens_per_batch
    flops = total_flops_per_byte(config, run.data.max_length, bytes_per_chunk)
    return Footprint(
        num_ranks,
        WIDE * sizes.share,
        round(gradients),
        WIDE * sizes.moments_share,
        WIDE * sizes.averages_share,
        round(gathered),
        round(around + sum(held)),
        round(around + sum(inputs) + max(held)),
        recomputes,
        round(peak),
        round(BYTES_PER_BUFFERED_BYTE * streams * run.data.shuffle_bytes),
        _network(sizes.num_parameters, sizes.num_trained, blocks, precision, run, num_ranks),
        positions,
        FORWARD_AND_BACKWARD * flops * positions,
    )


def _backward_peak(
    blocks: Sequence[BlockCost],
    kept: Sequence[float],
    working: Sequence[float],
    around: float,
    bytes_per_gradient: float,
) -> float:
    """Activations and gradients at the moment of the backward pass in which they are most."""
    most, gradients = 0.0, 0.0
    left = around + sum(kept)
    for block, own, works_with in reversed(list(zip(blocks, kept, working, strict=True))):
        gradients += bytes_per_gradient * block.num_parameters
        most = max(most, left + gradients + works_with)
        left -= own
    return most


@dataclass(frozen=True)
class _Sizes:
    """Numbers of parameters; shares are of the first rank, which has the largest."""

    num_parameters: int
    num_trained: int
    share: int
    trained_share: int
    moments_share: int
    averages_share: int


def share_of(shape: Sequence[int], num_ranks: int) -> int:
    """Numbers that the first rank has of a parameter: FSDP shards the first dimension."""
    return -(-shape[0] // num_ranks) * prod(shape[1:])


def _sizes(run: RunConfig, config: HNetConfig, num_shares: int) -> _Sizes:
    model = meta_model(config)
    freeze(model, run.model.freeze)
    if run.lora.is_on:
        adapt(model, run.model.init_from, run.lora)
    shares = {name: share_of(parameter.shape, num_shares) for name, parameter in model.named_parameters()}
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    is_muon = run.optimizer.name == "muon"
    moments = sum(
        shares[name] * (1 if is_muon and is_for_muon(name, parameter) else 2) for name, parameter in trained.items()
    )
    trained_share = sum(shares[name] for name in trained)
    return _Sizes(
        sum(parameter.numel() for parameter in model.parameters()),
        sum(parameter.numel() for parameter in trained.values()),
        sum(shares.values()),
        trained_share,
        moments,
        trained_share if run.optimizer.average else 0,
    )


def _network(
    num_parameters: int,
    num_trained: int,
    blocks: Sequence[BlockCost],
    precision: torch.dtype,
    run: RunConfig,
    num_ranks: int,
) -> int:
    """Bytes that a rank sends in an update. An all-reduce sends each number twice, a gather or a scatter once."""
    if num_ranks == 1:
        return 0
    others = (num_ranks - 1) / num_ranks
    if run.distributed.strategy == "ddp":
        return round(2 * others * WIDE * num_trained)
    of_blocks = sum(block.num_rounded for block in blocks)
    gathers = 2 * precision.itemsize * of_blocks + WIDE * (num_parameters - of_blocks)
    return round(others * (run.run.accumulation * gathers + WIDE * num_trained))
