"""What a person waits for: the help, the import, and the first training step of the demonstration.

Every figure is of whole processes, from their start.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hnet_lm.training.metrics import Record, read_metrics
from speed.settings import ROOT, Settings
from speed.timing import in_turn, timing_of

FIRST_RECORDS = ("first record of the demo", "first record, loops compiled before")
COMMAND = str(Path(sys.executable).with_name("hnet-lm"))
POLL_SECONDS = 0.02
GIVE_UP_SECONDS = 300.0


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    processes = {
        "hnet-lm --help": _process(COMMAND, "--help"),
        "import hnet_lm": _process(sys.executable, "-c", "import hnet_lm"),
        "import torch": _process(sys.executable, "-c", "import torch"),
    }
    with tempfile.TemporaryDirectory() as cache:
        first_records = {name: _first_record(settings.demo, cache) for name in FIRST_RECORDS}
    return {**in_turn(processes, settings.rounds, device), **first_records}


def _process(*command: str) -> Callable[[], object]:
    return partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)


def _first_record(run_file: Path, cache: str) -> dict[str, Any]:
    """From `hnet-lm demo` to the first record of its training, which it writes after its step `step`.

    `cache` is the folder where compiled loops are kept.
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "run")
        start = time.perf_counter()
        command = [COMMAND, "demo", str(run_file), "--output", str(directory)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment) as process:
            try:
                record = _wait_for_record(directory / "metrics.jsonl", process)
                seconds = time.perf_counter() - start
            finally:
                process.terminate()  # it saves and stops
    return {"step": record["step"], **timing_of([seconds])}


def _wait_for_record(path: Path, process: subprocess.Popen[bytes]) -> Record:
    for _ in range(round(GIVE_UP_SECONDS / POLL_SECONDS)):
        records = read_metrics(path)
        if records:
            return records[0]
        if process.poll() is not None:
            break
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"the demonstration wrote no record; its exit code is {process.poll()}")
