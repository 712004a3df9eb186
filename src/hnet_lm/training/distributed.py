"""Many ranks: the process group that torchrun describes, and DDP or FSDP2 around the model; all parallelism is here.

Chunk counts differ between ranks, and nothing depends on them: every rank runs the same modules once a micro-batch,
with as many rows as it has. A run without torchrun is one rank, and takes the same path.
"""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from hnet_lm.errors import UserError
from hnet_lm.model import HNetLM
from hnet_lm.model.block import Block
from hnet_lm.model.layers import Float32Linear
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.sections import DistributedConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Which rank this process is, of how many, and the device it works on."""

    rank: int
    num_ranks: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and talks to people."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum over all ranks, without gradient."""
        if self.num_ranks > 1:
            values = values.detach().clone()
            dist.all_reduce(values)
        return values

    def sum_of(self, *numbers: float) -> list[float]:
        """Each number summed over all ranks."""
        return self.sum(torch.tensor(numbers, dtype=torch.float64, device=self.device)).tolist()

    def from_first(self, value: T) -> T:
        """The first rank's value, on every rank."""
        box = [value]
        if self.num_ranks > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def on_first(self, action: Callable[[], None]) -> None:
        """Let the first rank do something that the others wait for; its UserError is raised on every rank."""
        failure = None
        if self.is_first:
            try:
                action()
            except UserError as error:
                failure = error
        failure = self.from_first(failure)
        if failure is not None:
            raise failure


@contextlib.contextmanager
def ranks() -> Iterator[Ranks]:
    """Join the group that torchrun set up (RANK, WORLD_SIZE, LOCAL_RANK); alone, this is rank 0 of 1.

    What `distribute` made must be gone at the block's end, so make it in a function that the block calls.
    """
    num_ranks = _from_environment("WORLD_SIZE", 1)
    device = _device_of(_from_environment("LOCAL_RANK", 0))
    if num_ranks == 1:
        yield Ranks(0, 1, device)
        return
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, dist.DistError) as error:
        first_line = str(error).partition("\n")[0]
        raise TrainingError(f"the {num_ranks} ranks could not meet; start them with torchrun: {first_line}") from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        # DDP must go before the group: as its last holder it would wait for the group's threads with Python's lock
        # held, which they may want. Its hooks are reference cycles, so going takes a collection.
        gc.collect()
        dist.destroy_process_group()


def _from_environment(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise TrainingError(f"{name} must be a whole number, got {value!r}; torchrun sets it")
    return int(value)


def _device_of(local_rank: int) -> torch.device:
    """Each rank of a machine has a CUDA device of its own; without any, all work on the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    num_devices = torch.cuda.device_count()
    if local_rank >= num_devices:
        raise TrainingError(
            f"LOCAL_RANK {local_rank}: there is no cuda:{local_rank}, this machine offers {num_devices} CUDA devices; "
            f"start at most {num_devices} ranks per node (torchrun --nproc-per-node {num_devices})"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def distribute(model: HNetLM, config: DistributedConfig, ranks: Ranks, precision: torch.dtype) -> nn.Module:
    """What to call instead of the model. FSDP2 shards the model itself in place, block by block; DDP wraps it."""
    if ranks.num_ranks == 1:
        return model
    if config.strategy == "ddp":
        return DistributedDataParallel(model, device_ids=[ranks.device] if ranks.device.type == "cuda" else None)
    # Inputs are not cast: the residual stream enters a block in float32 and leaves it so.
    policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in model.modules():
        if isinstance(module, Float32Linear):
            fully_shard(module)
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return model


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
