"""A program: the tasks of one step in order, as numbers in memory, run by one call into compiled code.

The rows of a stage are the streams that have a position there in this step. How many there are is read when a task is
reached, since the chunker of the stage outside has written it only just before; a task is skipped where its stage has
no rows, or not as many as it is made for. All memory is there from the beginning, so a step allocates nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hnet_lm.generation.stepper.cpu.atomics import load
from hnet_lm.generation.stepper.cpu.thread_pool import TaskQueue, parallel_for
from hnet_lm.ops.compiled.jit import compiled, inlined

WORK_PER_RANGE = 1 << 15
"""Numbers that a thread reads at least before it claims the next range: a few microseconds."""
WORD = 8
HEADER = 10
"""Numbers of an entry before its arguments: its size, the address of the number of rows, the task, and `Shape`."""


class Shape(NamedTuple):
    """How many items a task has, and how they are cut into ranges."""

    items: int = 0
    items_per_row: int = 0
    work: int = 1
    """Numbers to read per item."""
    work_per_row: int = 0
    """More of them for each row."""
    granule: int = 1
    """Ranges are multiples of this many items."""
    fewest_rows: int = 1
    most_rows: int = 1 << 62


class Rows(NamedTuple):
    """The rows of one stage in this step."""

    count: Int[Tensor, " 1"]
    slots: Int[Tensor, " max_rows"]
    boundary_prob: Float[Tensor, " max_rows"]
    """p of each row, where the stage is cut."""
    chunk_prob: Float[Tensor, " max_rows"]
    """p of each row in the stage outside, which made it a row of this one."""


class Program:
    """Tasks, and all memory that they have addresses of. Runs on one thread at a time."""

    def __init__(self, dtype: torch.dtype, max_rows: int, max_width: int):
        """`dtype` is that of all vectors, `max_width` the most numbers of a row of scratch memory."""
        self.dtype = dtype
        self.max_rows = max_rows
        self._max_width = max_width
        self._numbers: list[int] = []
        self._memory = np.zeros(0, np.int64)
        self._scratch: dict[str, Tensor] = {}
        self._kept: list[Any] = []
        self._queue = TaskQueue()
        self.failures = torch.zeros(1, dtype=torch.int64)
        """Set by a task that cannot follow a page table."""
        self._failed = self.failures.numpy()

    def buffer(self, width: int) -> Float[Tensor, "max_rows width"]:
        """Memory for rows that later tasks read."""
        return torch.zeros(self.max_rows, width, dtype=self.dtype)

    def scratch(self, name: str, width: int) -> Float[Tensor, "max_rows width"]:
        """Memory that all who use the name share, for what the next tasks read at once."""
        if name not in self._scratch:
            self._scratch[name] = torch.zeros(self.max_rows * self._max_width, dtype=self.dtype)
        return self._scratch[name][: self.max_rows * width].view(self.max_rows, width)

    def columns(self, num_lanes: int, width: int) -> Float[Tensor, "groups width num_lanes"]:
        """Scratch memory for transposed rows, in groups of `num_lanes`."""
        num_groups = -(-self.max_rows // num_lanes)
        if "columns" not in self._scratch:
            self._scratch["columns"] = torch.zeros(num_groups * num_lanes * self._max_width, dtype=self.dtype)
        size = num_groups * width * num_lanes
        return self._scratch["columns"][:size].view(num_groups, width, num_lanes)

    def add(self, task: int, rows: Rows, arguments: Sequence[int | Tensor], shape: Shape) -> None:
        """Append a task, which gets the addresses of tensors."""
        self._kept += [rows, *arguments]
        numbers = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
        self._numbers += [HEADER + len(numbers), rows.count.data_ptr(), task, *shape, *numbers]

    def run(self) -> None:
        """One step of the rows that have been written to the outermost stage."""
        if self._memory.size != len(self._numbers):
            self._memory = np.array(self._numbers, np.int64)
        start = self._memory.ctypes.data
        _run(self._queue.wake_helpers(), start, start + self._memory.nbytes)
        if self._failed[0]:
            self._failed[0] = 0
            raise RuntimeError("the page table of a stream does not lead to pages of the pool; its state is lost")


def checked(name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The tensor, if loops may read a contiguous array of this shape and type at its address. ValueError if not."""
    wanted = f"the compiled step needs {shape}, {dtype}, contiguous and on the CPU"
    if tensor is None:
        raise ValueError(f"{name} is missing; {wanted}")
    if (
        tuple(tensor.shape) == shape
        and tensor.dtype == dtype
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
    ):
        return tensor
    strides = tensor.stride()
    raise ValueError(
        f"{name} is {tuple(tensor.shape)}, {tensor.dtype}, of strides {strides} on {tensor.device}; {wanted}"
    )


def float_bits(number: float) -> int:
    """A float64 among int64 arguments, for `float_of`."""
    return int(np.float64(number).view(np.int64))


@no_type_check  # of Python: numba has types of its own
@inlined
def float_of(bits):
    return np.int64(bits).view(np.float64)


@no_type_check
@compiled
def _run(queue, entry, end):
    while entry < end:
        num_rows, task = load(load(entry + WORD)), load(entry + 2 * WORD)
        fewest_rows, most_rows = load(entry + 8 * WORD), load(entry + 9 * WORD)
        if fewest_rows <= num_rows <= most_rows:
            num_items = load(entry + 3 * WORD) + num_rows * load(entry + 4 * WORD)
            granule = load(entry + 7 * WORD)
            work = granule * (load(entry + 5 * WORD) + num_rows * load(entry + 6 * WORD))
            range_size = granule * max(1, WORK_PER_RANGE // work)
            parallel_for(queue, task, entry + HEADER * WORD, num_items, range_size)
        entry += load(entry) * WORD
