"""Whatever is passed to a public function, it is refused or done right: never a crash, never a wrong number.

The calls are made in a process of its own (`random_calls/`), which a crash would end without taking the tests along.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from thoroughness import is_thorough

pytestmark = pytest.mark.scaled

FOLDER = Path(__file__).parent / "random_calls"
NUM_CALLS = 10_000 if is_thorough() else 1_500
SEED = 0


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path])}
    command = [sys.executable, str(FOLDER / "random_calls_driver.py"), str(SEED), str(NUM_CALLS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"ended with {done.returncode} in call {done.stderr[-1000:]}"
    return json.loads(done.stdout)


def test_every_call_is_refused_or_right(outcomes: dict[str, Any]) -> None:
    assert not outcomes["failures"], "\n".join(outcomes["failures"][:10])
    assert sum(outcomes["outcomes"].values()) == NUM_CALLS


def test_calls_of_every_function_are_made_and_refused(outcomes: dict[str, Any]) -> None:
    """Else nothing was tried."""
    families = {key.split()[0] for key in outcomes["outcomes"]}
    least = NUM_CALLS // 500
    assert len(families) >= 15
    for family in families:
        assert outcomes["outcomes"].get(f"{family} done", 0) >= least, family
        assert outcomes["outcomes"].get(f"{family} refused", 0) >= least, family
