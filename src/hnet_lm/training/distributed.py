"""Many ranks: the process group that torchrun describes, and what ranks tell each other.

A run without torchrun is one rank, and takes the same path. How the model is divided among them is in `sharding.py`.
"""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # as torch.distributed has them, with their types

from hnet_lm.errors import UserError
from hnet_lm.training.errors import TrainingError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Which rank this process is, of how many, and the device it works on."""

    rank: int
    num_ranks: int
    device: torch.device
    background: dist.ProcessGroup | None = None
    """In which threads of the ranks meet that write checkpoints."""

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

    def gathered(self, value: T) -> list[T]:
        """Each rank's value, in the order of the ranks, on every rank."""
        found: list[Any] = [value]
        if self.num_ranks > 1:
            found = [None] * self.num_ranks
            dist.all_gather_object(found, value)
        return found

    def gathered_on_first(self, value: T) -> list[T]:
        """Each rank's value on the first one; nothing on the others."""
        if self.num_ranks == 1:
            return [value]
        found: list[Any] | None = [None] * self.num_ranks if self.is_first else None
        dist.gather_object(value, found, dst=0)
        return found or []

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
        store = _store_of_attempt(num_ranks)
        where: dict[str, Any] = (
            {} if store is None else {"store": store, "rank": _from_environment("RANK", 0), "world_size": num_ranks}
        )
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", **where)
    except (ValueError, dist.DistError) as error:
        first_line = str(error).partition("\n")[0]
        raise TrainingError(f"the {num_ranks} ranks could not meet; start them with torchrun: {first_line}") from error
    try:
        background = cast(dist.ProcessGroup, dist.new_group(backend="gloo"))
        yield Ranks(dist.get_rank(), dist.get_world_size(), device, background)
    finally:
        # DDP must go before the group: as its last holder it would wait for the group's threads with Python's lock
        # held, which they may want. Its hooks are reference cycles, so going takes a collection.
        gc.collect()
        dist.destroy_process_group()


def _store_of_attempt(num_ranks: int) -> Store | None:
    """Where ranks of one host meet, in each attempt anew. None: where torch lets them meet.

    torchrun may keep one store for all attempts, and a rank would take the address of a dead one from it. Hosts count
    their attempts differently, so several need a store for each (`TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` for torchrun).
    """
    environment = os.environ
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or environment.get("GROUP_WORLD_SIZE") != "1":
        return None
    store = TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), num_ranks, is_master=False)
    return PrefixStore(f"attempt {environment['TORCHELASTIC_RESTART_COUNT']}", store)


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
