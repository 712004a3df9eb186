"""The kernels for GPUs, run by Triton's interpreter in a process of its own: Triton asks once, when it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"

pytest.importorskip(
    "triton", reason="Triton is not installed: it comes with torch's CUDA and ROCm builds, and for Linux"
)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_interpreted() -> None:
    command = [sys.executable, "-m", "pytest", "-x", "-v", "-p", "no:cacheprovider", str(FOLDER)]
    done = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
