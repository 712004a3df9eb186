"""Training on longer and longer sequences, with all attention in windows: time a byte, and memory.

The time is that of a step of the same number of bytes at any length, so that the optimizer and whatever else a step
costs once counts the same; memory is that of a step on one sequence. The windows are those that even the shortest
sequence fills: a sequence within its window is attended to as a whole, and costs less a byte the shorter it is. What
the model's own windows cost at both ends is measured as well.
"""

import json
import subprocess
import sys
from typing import Any

import torch

from hnet_lm.config import HNetConfig
from speed.settings import ROOT, Settings
from speed.timing import timing_of

Row = dict[str, Any]


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    """A row a length, and two for the model's own windows. All take turns."""
    sizes = settings.length
    own_window = HNetConfig.load(settings.model).stages[0].attention.window_size
    subjects = [(length, sizes.window) for length in sizes.lengths]
    subjects += [(length, own_window) for length in (sizes.lengths[0], sizes.lengths[-1])]
    runs: dict[tuple[int, int], list[Row]] = {subject: [] for subject in subjects}
    for _ in range(sizes.rounds):
        for (length, window), rows in runs.items():
            rows.append(_alone(settings, length, window))
    seconds_of = {key: [seconds for row in rows for seconds in row["all_seconds"]] for key, rows in runs.items()}
    merged = [{**runs[subject][0], **timing_of(seconds_of[subject])} for subject in subjects]
    return {"steps": merged[: len(sizes.lengths)], "own_window": merged[len(sizes.lengths) :]}


def _alone(settings: Settings, length: int, window: int) -> Row:
    numbers = [str(number) for number in (length, window, settings.length.step_bytes)]
    command = [sys.executable, "-m", "speed.length_step", str(settings.model), *numbers]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT / "benchmarks")
    return json.loads(done.stdout)
