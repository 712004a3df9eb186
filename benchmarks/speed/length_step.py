"""Training steps on sequences of a given length, alone in a fresh process, so that its peak of memory is its own.

    python -m speed.length_step CONFIG LENGTH WINDOW STEP_BYTES     (in the folder benchmarks)

Prints JSON. The peak is that of a step on one sequence, above what the process held before it; a step on a short
sequence has then allocated gradients and the optimizer's state, and loaded all that is loaded once. The times are those
of steps on as many sequences as make so many bytes.
"""

import json
import sys
from pathlib import Path

from hnet_lm.config import HNetConfig
from speed.bench_model import english_batch, make_model, windowed
from speed.machine import choose_device
from speed.memory import current_bytes, peak_bytes, reset_peak
from speed.timing import seconds_of
from speed.update_step import UpdateStep

SHORT = 128
WARM_UP = 2
"""Steps until all memory that one needs is there."""
TIMED = 2


def main(model: Path, length: int, window: int, step_bytes: int) -> None:
    device = choose_device()
    batch = english_batch(1, length).to(device)
    config = windowed(HNetConfig.load(model), window)
    step = UpdateStep(make_model(config, batch.input_ids, batch.sequences), english_batch(1, SHORT).to(device))
    step()
    step.batch = batch
    reset_peak(device)
    before = current_bytes(device)
    step()
    peak = peak_bytes(device) - before
    step.batch = english_batch(step_bytes // length, length).to(device)
    for _ in range(WARM_UP):
        step()
    result = {
        "length": length,
        "window": window,
        "step_bytes": step_bytes,
        "bytes_per_chunk": step.bytes_per_chunk,
        "flops_per_byte": step.flops_per_byte,
        "peak_bytes": peak,
        "all_seconds": [seconds_of(step, device) for _ in range(TIMED)],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
