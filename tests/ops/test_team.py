"""A team shares a job: every item is done once, whoever helps, whoever else is at work, and after a fork as well."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from op_runs import threads

from hnet_lm.ops.atomics import add, load, pause
from hnet_lm.ops.native import at, compiled
from hnet_lm.ops.team import AWAKE, MOST, _board, job, numbers, share, team


@job
def _count(arguments, first, last):
    """Add 1 to each item, and to how many have begun; the first waits a while for another thread to begin."""
    place, size, begun, looks = numbers(arguments, 4)
    items = at(place, np.int64(0), (size,))
    add(begun, 1)
    for _ in range(looks):
        if load(begun) > 1:
            break
        pause()
    for i in range(first, last):
        items[i] += 1


@compiled
def _share(team, job, arguments, num_items, items_a_turn):
    share(team, job, arguments, num_items, items_a_turn)


def counted(team: int, num_items: int, items_a_turn: int, looks: int = 0) -> tuple[NDArray[np.int64], int]:
    """How often each item was done, and in how many turns."""
    items, begun = np.zeros(num_items, np.int64), np.zeros(1, np.int64)
    arguments = (items.ctypes.data, num_items, begun.ctypes.data, looks)
    _share(team, _count, arguments, num_items, items_a_turn)
    return items, int(begun[0])


@pytest.mark.parametrize("num_threads", [1, 2, 3, 2 * MOST])
@pytest.mark.parametrize(("num_items", "items_a_turn"), [(0, 1), (1, 1), (7, 7), (7, 3), (1000, 1), (1000, 17)])
def test_every_item_is_done_once(num_threads: int, num_items: int, items_a_turn: int) -> None:
    with threads(num_threads):
        for _ in range(20):
            items, turns = counted(team(), num_items, items_a_turn)
            assert (items == 1).all()
            assert turns in {1, -(-num_items // items_a_turn)}


def test_helpers_take_turns() -> None:
    """The first turn waits for a second, which nobody but a helper can begin meanwhile."""
    with threads(2):
        for _ in range(50):  # a helper may be late for the first jobs
            start = time.perf_counter()
            items, _ = counted(team(), 2, 1, looks=2_000_000)
            assert (items == 1).all()
            if time.perf_counter() - start < 0.005:
                return
    pytest.fail("no helper came")


def test_alone_where_torch_has_one_thread() -> None:
    with threads(1):
        assert team() == 0


def test_helpers_go_to_sleep() -> None:
    def all_sleep() -> bool:
        end = time.monotonic() + 20
        while _board()[0][AWAKE // 8] and time.monotonic() < end:
            time.sleep(0.01)
        return _board()[0][AWAKE // 8] == 0

    assert all_sleep()
    with threads(2):
        assert team()
    assert all_sleep()


def test_several_callers_at_once() -> None:
    wrong: list[int] = []

    def call() -> None:
        for _ in range(300):
            items, _ = counted(team(), 40, 3)
            wrong.extend([1] * int((items != 1).any()))

    with threads(2):
        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert not wrong


FORK = """
import os, sys, torch
sys.path.insert(0, sys.argv[1])
from test_team import counted, team
torch.set_num_threads(2)
assert (counted(team(), 100, 1)[0] == 1).all()
child = os.fork()
assert all((counted(team(), 100, 1)[0] == 1).all() for _ in range(50))
if child:
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork() -> None:
    """Helpers do not come along; the child gets its own."""
    folder = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", FORK, folder], timeout=100, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
