"""What a step frees, the next takes again, without asking the system for it."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from hnet_lm.training.memory import keep_freed_memory
import torch
if sys.argv[1] == "keep":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.ones(16 << 20).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has the switches")
def test_freed_memory_is_used_again() -> None:
    """64 MiB fifty times over are 800,000 pages. Now and then a small thing lies in what was freed: new ones come."""
    assert 4 * faults("keep") < faults("default")


GIVEN_BACK = """
import os
from hnet_lm.training.freed_memory import give_back_freed_memory
from hnet_lm.training.memory import keep_freed_memory
import torch
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
keep_freed_memory()
large, small = torch.ones(64 << 20), torch.ones(8)
del large
held = resident()
give_back_freed_memory()
print(held - resident(), float(small.sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has the switches")
def test_freed_memory_is_given_back() -> None:
    """256 MiB, though something that is used lies behind them."""
    done = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True)
    given_back, total = done.stdout.split()
    assert int(given_back) > 200 << 20
    assert float(total) == 8
