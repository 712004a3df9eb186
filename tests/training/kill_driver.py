"""Trains a run once undisturbed and once through many SIGKILLs; a script with a JSON file that says what to do.

torch is imported once; every attempt is a fork, so that an attempt costs little. An attempt ends in one of two ways:
the parent kills it after a random time, or it kills itself at the n-th thing it does to the files of the run (seen
by an audit hook, so nothing of the library is replaced), which lands inside a save. What the training reads is written
down batch by batch.

Only the standard library is imported above: the loader's workers import this file again.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

FILE_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


def kill_at_file_event(number: int, directory: str) -> None:
    """From now on count what this process does to files below the directory, and die at that number."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in FILE_EVENTS and str(arguments[0]).startswith(directory):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def attempt(table: dict[str, Any], batches: Path) -> None:
    """Train, or go on training, and append what is read to a file."""
    from hnet_lm.data import DataLoader
    from hnet_lm.tables import from_table
    from hnet_lm.training import loop, run
    from hnet_lm.training.config import RunConfig

    class RecordingLoader(DataLoader):
        def __next__(self):
            number = self.state_dict()["next_batch"]
            batch = super().__next__()
            with batches.open("a") as file:
                file.write(json.dumps([number, batch.origin.tolist(), batch.input_ids.tolist()]) + "\n")
            return batch

    def open_recording(data, *, special_ids, **options):
        return RecordingLoader(data, **options)

    run.open_loader = open_recording
    loop.train(from_table(RunConfig, table))


def fork(table: dict[str, Any], batches: Path, die_at_event: int | None = None) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if die_at_event is not None:
            kill_at_file_event(die_at_event, table["run"]["directory"])
        attempt(table, batches)
        code = 0
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """The exit code, or minus the signal that ended the process."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_for_steps(checkpoints: Path, num_steps: int, longest: float) -> None:
    """Until an attempt has logged so many steps beyond its checkpoint, or `longest` seconds have passed.

    Steps and not seconds: however fast the machine, a run is not over before it is killed.
    """
    newest = max((int(path.name[-8:]) for path in checkpoints.glob("step_*")), default=0)
    metrics = checkpoints.parent / "metrics.jsonl"
    give_up = time.monotonic() + longest
    while time.monotonic() < give_up:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if sum('"loss"' in line for line in lines) >= newest + num_steps:
            return
        time.sleep(0.002)


def train_through_kills(spec: dict[str, Any]) -> list[str]:
    """Kill so many attempts; where each kill landed: `inside a save` or `elsewhere`.

    A checkpoint that has its name is whole, whenever the kill comes.
    """
    from hnet_lm.training.checkpoints import find_damage

    rng = random.Random(spec["seed"])
    table, batches = spec["killed"], Path(spec["killed_batches"])
    checkpoints = Path(table["run"]["directory"]) / "checkpoints"
    landed = []
    for number in range(spec["num_kills"]):
        if number % 2:
            pid = fork(table, batches)
            wait_for_steps(checkpoints, rng.randint(0, 3), spec["longest"])
            time.sleep(rng.uniform(0.0, 0.05))
            os.kill(pid, signal.SIGKILL)
        else:
            pid = fork(table, batches, die_at_event=rng.randint(1, spec["last_event"]))
        code = wait(pid)
        if code != -signal.SIGKILL:
            raise SystemExit(f"attempt {number} ended with {code} and was not killed")
        damage = {str(path): find_damage(path) for path in checkpoints.glob("step_*")}
        if any(damage.values()):
            raise SystemExit(f"attempt {number} left a damaged checkpoint under its own name: {damage}")
        in_save = any(checkpoints.glob(".step_*.partial"))
        landed.append("inside a save" if in_save else "elsewhere")
    return landed


def main(spec: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(1)
    attempt(spec["unbroken"], Path(spec["unbroken_batches"]))  # here, so that every fork has all that is imported late
    landed = train_through_kills(spec)
    code = wait(fork(spec["killed"], Path(spec["killed_batches"])))
    print(json.dumps({"landed": landed, "exit_code": code}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
