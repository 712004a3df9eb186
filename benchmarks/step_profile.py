"""Where a training step spends its time, by kind of work.

    python benchmarks/step_profile.py [demo bench] [--bytes 4096] [--steps 8] [--output FILE.json]

The model is random, its router set to cut English every five bytes; a step is the loop's own update, at rate 0.
Times are those of torch's profiler: each operation's own, in milliseconds of one step. What is left of the wall time is
Python. A compiled loop counts as one operation, its threads' time once. For a table of before and after, run it in two
checkouts in turn, with nothing else on the machine.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from hnet_lm.config import HNetConfig
from hnet_lm.named_configs import config_file
from speed.bench_model import english_batch, make_model
from speed.update_step import UpdateStep

MAX_LENGTH = 1024
"""Bytes of a sequence."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::addmv", "mkldnn"),
    "scan": ("ssd", "ema_scan"),
    "convolution": ("causal_conv",),
    "attention": ("scaled_dot_product",),
    "norms": ("rms_norm",),
    "loss": ("log_softmax", "nll_loss"),
    "optimizer": ("adamw", "AdamW", "linalg_vector_norm", "foreach"),
    "joining and copying": ("aten::cat", "aten::copy_", "aten::clone", "index", "aten::gather", "aten::contiguous"),
    "filling with zeros": ("aten::fill_", "aten::zero_", "aten::zeros"),
}
"""By a part of the operation's name; the first that fits counts."""
REST = "element by element and small calls"
PYTHON = "Python"


def kind_of(operation: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), REST)


def measure(name: str, num_bytes: int, num_steps: int) -> dict[str, Any]:
    """Milliseconds of a step by kind, `wall` without the profiler, and how busy the cores were."""
    batch = english_batch(max(1, num_bytes // MAX_LENGTH), min(num_bytes, MAX_LENGTH))
    config = HNetConfig.load(config_file(name, "models"))
    step = UpdateStep(make_model(config, batch.input_ids, batch.sequences), batch)
    for _ in range(2):
        step()
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(num_steps):
        step()
    wall, busy = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(num_steps):
            step()
    profiled = time.perf_counter() - start
    kinds: defaultdict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        kinds[kind_of(event.key)] += event.self_cpu_time_total / 1e3 / num_steps
    kinds[PYTHON] = max(0.0, profiled * 1e3 / num_steps - sum(kinds.values()))
    cores_busy = busy / wall / torch.get_num_threads()
    return {"wall": wall * 1e3 / num_steps, "cores_busy": cores_busy, "kinds": dict(kinds)}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [["ms of a step", *results], ["---", *["--:"] * len(results)]]
    for kind in (*KINDS, REST, PYTHON):
        times = [result["kinds"].get(kind, 0.0) for result in results.values()]
        totals = [sum(result["kinds"].values()) for result in results.values()]
        rows.append([kind, *(f"{time:.1f} ({time / total:.0%})" for time, total in zip(times, totals, strict=True))])
    rows.append(["without the profiler", *(f"{result['wall']:.1f}" for result in results.values())])
    rows.append(["cores busy", *(f"{result['cores_busy']:.0%}" for result in results.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["demo", "bench"], help="names or files of configs")
    parser.add_argument("--bytes", type=int, default=4096, help="of a step")
    parser.add_argument("--steps", type=int, default=8, help="of which the mean is taken")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results = {name: measure(name, options.bytes, options.steps) for name in options.models}
    print(table(results))
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
