"""What run.compile gives: training steps of a configuration as it is and with compiled blocks, in turn.

    python benchmarks/compiled.py [--model demo] [--positions 4096] [--rounds 8] [--output FILE.json]

Each of the steps is on other documents, so none has the lengths of another. Prints JSON: the trial of the compiler, the
first compiled step, and the median of the others, in seconds of the clock and of the processor (which others on the
machine change less). A cold start is one with an empty TORCHINDUCTOR_CACHE_DIR.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.data import Batch, DataConfig, open_loader
from hnet_lm.losses import next_byte_loss
from hnet_lm.model import HNetLM
from hnet_lm.training.compilation import compile_blocks
from speed.bench_model import SOURCES
from speed.machine import choose_device, machine_facts, provenance, report

MAX_LENGTH = 1024
Seconds = dict[str, float]


def timed(call: Callable[[], Any]) -> Seconds:
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return {"seconds": time.perf_counter() - clock, "processor_seconds": time.process_time() - processor}


def model_of(name: str, device: torch.device) -> HNetLM:
    torch.manual_seed(0)
    return HNetLM(HNetConfig.load(name)).to(device)


def step(model: HNetLM, batch: Batch) -> None:
    """Forward, loss and backward; what the optimizer does is the same for both."""
    next_byte_loss(model(batch.input_ids, batch.sequences).logits, batch.targets).backward()
    model.zero_grad()
    if model.device.type != "cpu":
        torch.accelerator.synchronize(model.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--positions", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device = choose_device()
    config = DataConfig(SOURCES[:1], tokens_per_batch=arguments.positions, max_length=MAX_LENGTH)
    loader = open_loader(config, vocab_size=256)
    batches = [next(loader).to(device) for _ in range(arguments.rounds + 1)]
    loader.close()
    measured = provenance()
    models = {"plain": model_of(arguments.model, device), "compiled": model_of(arguments.model, device)}
    step(models["plain"], batches[0])
    trial = timed(lambda: compile_blocks(models["compiled"]))
    first = timed(lambda: step(models["compiled"], batches[0]))
    rounds: dict[str, list[Seconds]] = {name: [] for name in models}
    for batch in batches[1:]:
        for name, model in models.items():
            rounds[name].append(timed(lambda model=model, batch=batch: step(model, batch)))
    results = {
        "machine": machine_facts(device),
        "measured": measured,
        "model": arguments.model,
        "trial of the compiler": trial,
        "first compiled step": first,
        **{
            name: {key: statistics.median(each[key] for each in found) for key in ("seconds", "processor_seconds")}
            for name, found in rounds.items()
        },
    }
    report(results, arguments.output)


if __name__ == "__main__":
    main()
