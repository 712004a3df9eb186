"""Blocks under torch.compile train as they do without it, and are compiled once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

DRIVER = Path(__file__).parent / "compile_driver.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("compiled")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "results.json").read_text())


def test_other_lengths_compile_nothing_anew(results: dict[str, Any]) -> None:
    graphs = results["graphs"]["graphs"]
    assert graphs[0] > 0
    assert graphs[1:] == graphs[:-1]


def test_gradients_and_names_stay_what_they_are(results: dict[str, Any]) -> None:
    assert results["graphs"]["difference"] < 1e-6
    assert results["graphs"]["same_names"]


def test_a_compiled_run_goes_on_bit_for_bit(results: dict[str, Any]) -> None:
    assert results["run"]["same_weights"]
    assert results["run"]["losses_apart"] < 1e-4


def test_without_a_compiler_one_line_says_so(results: dict[str, Any]) -> None:
    assert "run.compile: torch cannot compile here" in results["refused"]
    assert "/no/such/compiler" in results["refused"]
    assert "\n" not in results["refused"]
