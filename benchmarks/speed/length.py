"""Training on longer and longer sequences, one a step, with all attention in windows: time and memory a byte."""

import json
import subprocess
import sys
from typing import Any

import torch

from speed.memory import available_bytes
from speed.settings import ROOT, Settings
from speed.timing import timing_of

Row = dict[str, Any]


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    """A row a length. All lengths take turns; those that would not fit into memory are left out."""
    runs: dict[int, list[Row]] = {}
    shorter: Row | None = None
    for length in settings.train_lengths:
        if shorter is not None and shorter["peak_bytes"] * length / shorter["length"] > available_bytes(device):
            break
        shorter = _alone(settings, length)
        runs[length] = [shorter]
    for _ in range(settings.rounds - 1):
        for length, rows in runs.items():
            rows.append(_alone(settings, length))
    return {
        "steps": [
            {**rows[0], **timing_of([seconds for row in rows for seconds in row["all_seconds"]])}
            for rows in runs.values()
        ],
        "left_out": [length for length in settings.train_lengths if length not in runs],
    }


def _alone(settings: Settings, length: int) -> Row:
    command = [sys.executable, "-m", "speed.length_step", str(settings.model), str(length)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT / "benchmarks")
    return json.loads(done.stdout)
