"""A thread pool whose helpers spin for work, to share loops that take microseconds.

Waking a thread takes tens of microseconds, as long as a product of one position takes altogether. So the helpers of the
process poll for work and sleep only when there has been none for about a millisecond.

A task is a compiled function of a range of items. Whoever runs tasks owns a `TaskQueue`, and offers one task at a time
there; helpers serve all queues in turn. A task is cut into ranges, and whoever is free claims the next one. The caller
claims ranges too, all of them where no helper is awake, so it never waits for a helper that does not come.
"""

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, no_type_check

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hnet_lm.generation.stepper.cpu.atomics import add, call, compare_and_swap, load, spin_hint, store, yield_thread
from hnet_lm.generation.stepper.cpu.cpu_count import usable_cpus
from hnet_lm.ops.compiled.jit import compiled, compiled_callback, inlined
from hnet_lm.ops.compiled.memory import CACHE_LINE

MAX_THREADS = 8
MAX_QUEUES = 64
"""Owners of further queues compute on one thread."""
SPINS_BEFORE_SLEEP = 50_000
SPINS_BEFORE_YIELD = 64
"""A few microseconds: whoever spins longer may occupy the core that the awaited thread needs."""

WORD = 8
NUM_AWAKE, NUM_QUEUES, FIRST_QUEUE = 0, CACHE_LINE, 2 * CACHE_LINE
"""Byte offsets in the pool's memory; a number that several threads change has a cache line of its own."""
OWNED, TICKET, NUM_DONE, POOL = 0, CACHE_LINE, 2 * CACHE_LINE, 3 * CACHE_LINE
TASK, ARGUMENTS, NUM_ITEMS, RANGE_SIZE = (POOL + i * WORD for i in range(1, 5))
"""Byte offsets in a queue."""
QUEUE_BYTES = 4 * CACHE_LINE

TICKET_BITS = 20
"""A ticket packs the task's serial number, how many ranges it has, and how many are claimed."""
TICKET_MASK = (1 << TICKET_BITS) - 1

_callbacks: list[Any] = []
"""Kept alive: other loops know only their addresses."""


def task(function: Callable[..., None]) -> int:
    """Compile `(arguments, first, last)`, a loop over a range of items; its address. See `arguments_at`."""
    callback = compiled_callback(function, ((types.int64,) * 3, types.void))
    _callbacks.append(callback)
    assert callback.address is not None
    return callback.address


@intrinsic(prefer_literal=True)
@no_type_check  # of Python: numba has types of its own
def arguments_at(_, arguments, count):
    """The int64 arguments of a task as a tuple."""
    tuple_type = types.UniTuple(types.int64, count.literal_value)

    def generate(context, builder, signature, given):
        number = ir.IntType(64)
        start = builder.inttoptr(given[0], number.as_pointer())
        numbers = [builder.load(builder.gep(start, [number(i)])) for i in range(tuple_type.count)]
        return context.make_tuple(builder, tuple_type, numbers)

    return tuple_type(arguments, count), generate


class ThreadPool:
    """The helpers of this process and the memory of all queues, which is never freed."""

    def __init__(self) -> None:
        num_words = (FIRST_QUEUE + MAX_QUEUES * QUEUE_BYTES) // WORD
        memory = np.zeros(num_words + CACHE_LINE // WORD, np.int64)
        start = -memory.ctypes.data % CACHE_LINE // WORD
        self._memory = memory[start : start + num_words]
        self._address: int = self._memory.ctypes.data
        self._of_queues(POOL)[:] = self._address
        self._claimed: set[int] = set()
        self._lock = threading.RLock()  # reentrant, as collecting garbage may free a queue at any time
        self._executor: ThreadPoolExecutor | None = None

    @property
    def num_awake(self) -> int:
        """Helpers that poll for work, or have been told to."""
        return int(self._memory[NUM_AWAKE // WORD])

    def wake_helpers(self, wanted: int) -> None:
        if self.num_awake >= wanted:
            return
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(MAX_THREADS - 1, thread_name_prefix="hnet-lm-stepper")
            for _ in range(wanted - self.num_awake):
                _count_awake(self._address, 1)
                self._executor.submit(_help, self._address)

    def claim_queue(self) -> int:
        """The address of a free queue; 0 if there is none."""
        with self._lock:
            free = set(range(MAX_QUEUES)) - self._claimed
            if not free:
                return 0
            index = min(free)
            self._claimed.add(index)
            self._count_queues()
            return self._address + FIRST_QUEUE + index * QUEUE_BYTES

    def release_queue(self, address: int) -> None:
        """A helper that still looks there finds no work."""
        if address:
            with self._lock:
                self._claimed.discard((address - self._address - FIRST_QUEUE) // QUEUE_BYTES)
                self._count_queues()

    def forget_helpers(self) -> None:
        """After a fork, which threads do not survive: none is awake, and no queue has work."""
        self._lock, self._executor = threading.RLock(), None
        self._memory[NUM_AWAKE // WORD] = 0
        for offset in (OWNED, TICKET, NUM_DONE):
            self._of_queues(offset)[:] = 0

    def _of_queues(self, offset: int) -> NDArray[np.int64]:
        """One number of every queue."""
        return self._memory[(FIRST_QUEUE + offset) // WORD :: QUEUE_BYTES // WORD]

    def _count_queues(self) -> None:
        self._memory[NUM_QUEUES // WORD] = max(self._claimed, default=-1) + 1


THREAD_POOL = ThreadPool()

if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=THREAD_POOL.forget_helpers)


class TaskQueue:
    """Where one owner offers its tasks to the helpers of the process. Released with the object."""

    def __init__(self) -> None:
        self._address = THREAD_POOL.claim_queue()
        weakref.finalize(self, THREAD_POOL.release_queue, self._address)

    def wake_helpers(self) -> int:
        """The queue for `parallel_for`, with helpers awake; 0 if this thread has to work alone."""
        num_helpers = min(torch.get_num_threads(), usable_cpus(), MAX_THREADS) - 1
        if num_helpers < 1 or not self._address:
            return 0
        THREAD_POOL.wake_helpers(num_helpers)
        return self._address


@no_type_check
@compiled
def parallel_for(queue, task, arguments, num_items, range_size):
    """Run a task on all items, together with the helpers that are awake."""
    num_ranges = (num_items + range_size - 1) // range_size
    if (
        queue == 0
        or num_ranges < 2
        or num_ranges > TICKET_MASK
        or load(load(queue + POOL) + NUM_AWAKE) == 0
        or not compare_and_swap(queue + OWNED, 0, 1)
    ):
        call(task, arguments, 0, num_items)
        return
    store(queue + TASK, task)
    store(queue + ARGUMENTS, arguments)
    store(queue + NUM_ITEMS, num_items)
    store(queue + RANGE_SIZE, range_size)
    store(queue + NUM_DONE, 0)
    serial_number = ((load(queue + TICKET) >> (2 * TICKET_BITS)) + 1) & TICKET_MASK
    store(queue + TICKET, (serial_number << (2 * TICKET_BITS)) + (num_ranges << TICKET_BITS))
    _run_ranges(queue)
    num_spins = 0
    while load(queue + NUM_DONE) < num_ranges:
        num_spins = _spin(num_spins)
    store(queue + OWNED, 0)


@no_type_check
@inlined
def _has_work(ticket):
    return ticket & TICKET_MASK < (ticket >> TICKET_BITS) & TICKET_MASK


@no_type_check
@compiled
def _run_ranges(queue):
    """Claim ranges until all are claimed. A task stays in its queue until each claimed range is done."""
    while True:
        ticket = load(queue + TICKET)
        if not _has_work(ticket):
            return
        if compare_and_swap(queue + TICKET, ticket, ticket + 1):
            size, index = load(queue + RANGE_SIZE), ticket & TICKET_MASK
            last = min((index + 1) * size, load(queue + NUM_ITEMS))
            call(load(queue + TASK), load(queue + ARGUMENTS), index * size, last)
            add(queue + NUM_DONE, 1)


@no_type_check
@inlined
def _spin(num_spins):
    spin_hint()
    if num_spins % SPINS_BEFORE_YIELD == SPINS_BEFORE_YIELD - 1:
        yield_thread()
    return num_spins + 1


@no_type_check
@compiled
def _help(pool):
    """What a helper does until it sleeps."""
    num_spins = 0
    while num_spins < SPINS_BEFORE_SLEEP:
        for i in range(load(pool + NUM_QUEUES)):
            queue = pool + FIRST_QUEUE + i * QUEUE_BYTES
            if _has_work(load(queue + TICKET)):
                _run_ranges(queue)
                num_spins = 0
        num_spins = _spin(num_spins)
    add(pool + NUM_AWAKE, -1)


@no_type_check
@compiled
def _count_awake(pool, number):
    add(pool + NUM_AWAKE, number)
