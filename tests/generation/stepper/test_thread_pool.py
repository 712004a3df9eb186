"""Threads share a task: every item is done once, whoever helps, whoever else is at work, and after a fork as well."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, no_type_check

import numba
import numpy as np
import pytest
import torch
from numba import types
from numpy.typing import NDArray

from hnet_lm.generation.stepper.cpu import thread_pool
from hnet_lm.generation.stepper.cpu.atomics import add, load, store, yield_thread
from hnet_lm.generation.stepper.cpu.thread_pool import (
    MAX_QUEUES,
    MAX_THREADS,
    THREAD_POOL,
    TaskQueue,
    arguments_at,
    parallel_for,
)
from hnet_lm.ops.compiled.memory import array_at


@numba.cfunc(types.void(types.int64, types.int64, types.int64))
@no_type_check  # of Python: numba has types of its own
def count(arguments, first, last):
    """Add 1 to each item, and to how many ranges have begun; note whether the first has met another thread."""
    address, size, begun, met, yields = arguments_at(arguments, 5)
    items = array_at(address, np.int64(0), (size,))
    add(begun, 1)
    for _ in range(yields if first == 0 else 0):
        if load(begun) > 1:
            store(met, 1)
            break
        yield_thread()
    for i in range(first, last):
        items[i] += 1


def counted(queue: int, num_items: int, range_size: int) -> tuple[NDArray[np.int64], int]:
    """How often each item was done, and in how many ranges."""
    items, begun = np.zeros(num_items, np.int64), np.zeros(1, np.int64)
    arguments = np.array([items.ctypes.data, num_items, begun.ctypes.data, 0, 0])
    parallel_for(queue, COUNT, arguments.ctypes.data, num_items, range_size)
    return items, int(begun[0])


def is_helped(queue: TaskQueue) -> bool:
    """Whether a helper comes: the first range waits for a second, which nobody else can begin meanwhile."""
    items, begun, met = np.zeros(2, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
    arguments = np.array([items.ctypes.data, 2, begun.ctypes.data, met.ctypes.data, 100_000])
    for _ in range(50):  # a helper may be late
        begun[0] = 0
        parallel_for(queue.wake_helpers(), COUNT, arguments.ctypes.data, 2, 1)
        if met[0]:
            return True
    return False


COUNT: Any = count.address


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers also where this machine has a single CPU."""
    monkeypatch.setattr(thread_pool, "usable_cpus", lambda: 2 * MAX_THREADS)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 2 * MAX_THREADS])
@pytest.mark.parametrize(("num_items", "range_size"), [(0, 1), (1, 1), (7, 7), (7, 3), (1000, 1), (1000, 17)])
def test_every_item_is_done_once(num_threads: int, num_items: int, range_size: int) -> None:
    queue = TaskQueue()
    with threads(num_threads):
        for _ in range(20):
            items, num_ranges = counted(queue.wake_helpers(), num_items, range_size)
            assert (items == 1).all()
            assert num_ranges in {1, -(-num_items // range_size)}


def test_helpers_come() -> None:
    with threads(2):
        assert is_helped(TaskQueue())


def test_helpers_serve_every_queue() -> None:
    with threads(2):
        queues = [TaskQueue() for _ in range(3)]
        assert all(is_helped(queue) for queue in queues)


def test_an_owner_at_work_does_not_keep_the_helper_from_another() -> None:
    """The only helper is shared by a queue whose owner never pauses."""
    stopped = threading.Event()
    busy, other = TaskQueue(), TaskQueue()

    def work() -> None:
        while not stopped.is_set():
            counted(busy.wake_helpers(), 1000, 1)

    with threads(2):
        worker = threading.Thread(target=work)
        worker.start()
        try:
            assert is_helped(other)
        finally:
            stopped.set()
            worker.join()


def test_alone_where_torch_has_one_thread() -> None:
    with threads(1):
        assert TaskQueue().wake_helpers() == 0


def test_alone_where_one_cpu_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "usable_cpus", lambda: 1)
    with threads(4):
        assert TaskQueue().wake_helpers() == 0


def all_sleep() -> bool:
    end = time.monotonic() + 20
    while THREAD_POOL.num_awake and time.monotonic() < end:
        time.sleep(0.01)
    return THREAD_POOL.num_awake == 0


@pytest.mark.parametrize(("num_threads", "num_cpus", "expected"), [(2, 8, 1), (5, 3, 2), (100, 100, MAX_THREADS - 1)])
def test_no_more_helpers_than_cpus_and_threads(
    num_threads: int, num_cpus: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all_sleep()
    monkeypatch.setattr(thread_pool, "usable_cpus", lambda: num_cpus)
    wanted: list[int] = []
    monkeypatch.setattr(THREAD_POOL, "wake_helpers", wanted.append)
    with threads(num_threads):
        TaskQueue().wake_helpers()
    assert wanted == [expected]


def test_helpers_go_to_sleep() -> None:
    assert all_sleep()
    queue = TaskQueue()
    with threads(2):
        assert queue.wake_helpers()
    assert all_sleep()


def test_no_waiting_for_a_helper_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its thread cannot start: it counts as awake, and never runs."""
    assert all_sleep()
    queue = TaskQueue()
    with threads(2):
        monkeypatch.setattr(THREAD_POOL, "_executor", _NoExecutor())
        try:
            address = queue.wake_helpers()
            assert THREAD_POOL.num_awake == 1
            items, num_ranges = counted(address, 100, 1)
        finally:
            thread_pool._count_awake(THREAD_POOL._address, -1)
    assert (items == 1).all()
    assert num_ranges == 100


class _NoExecutor:
    def submit(self, *_: Any) -> None:
        pass


def test_several_callers_of_one_queue_and_of_their_own() -> None:
    wrong: list[int] = []
    shared = TaskQueue()

    def call(queue: TaskQueue) -> None:
        for _ in range(300):
            items, _ = counted(queue.wake_helpers(), 40, 3)
            wrong.extend([1] * int((items != 1).any()))

    with threads(2):
        callers = [threading.Thread(target=call, args=[queue]) for queue in (shared, shared, TaskQueue(), TaskQueue())]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert not wrong


def test_queues_are_freed_and_whoever_gets_none_works_alone() -> None:
    gc.collect()
    with threads(2):
        queues = [TaskQueue() for _ in range(MAX_QUEUES + 1)]
        addresses = [queue.wake_helpers() for queue in queues]
        assert addresses[-1] == 0
        given = [address for address in addresses if address]
        assert len(set(given)) == len(given)
        items, num_ranges = counted(addresses[-1], 10, 1)
        assert (items == 1).all()
        assert num_ranges == 1
        del queues
        gc.collect()
        assert TaskQueue().wake_helpers()


FORK = """
import os, sys, torch
sys.path.insert(0, sys.argv[1])
from test_thread_pool import TaskQueue, counted, is_helped, thread_pool
thread_pool.usable_cpus = lambda: 2
torch.set_num_threads(2)
queue = TaskQueue()
assert (counted(queue.wake_helpers(), 100, 1)[0] == 1).all()
child = os.fork()
assert all((counted(queue.wake_helpers(), 100, 1)[0] == 1).all() for _ in range(50))
assert is_helped(queue) and is_helped(TaskQueue())
if child:
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork() -> None:
    """Helpers do not survive it; the child gets its own, also for a queue of before."""
    folder = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", FORK, folder], timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
