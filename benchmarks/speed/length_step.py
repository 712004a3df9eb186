"""Training steps on one sequence of a given length, alone in a fresh process, so that its peak of memory is its own.

    python -m speed.length_step CONFIG LENGTH [WINDOW]     (in the folder benchmarks)

Prints JSON. The peak is that of a step above what the process held before it; a step on a short sequence has then
allocated gradients and the optimizer's state, and loaded all that is loaded once.
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
TIMED_BYTES = 65536  # short steps are repeated until they make so many


def main(model: Path, length: int, window: int | None = None) -> None:
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
    step()  # memory that the first takes from the system is there for those after it
    result = {
        "length": length,
        "bytes_per_chunk": step.bytes_per_chunk,
        "flops_per_byte": step.flops_per_byte,
        "peak_bytes": peak,
        "all_seconds": [seconds_of(step, device) for _ in range(max(1, TIMED_BYTES // length))],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
