"""Memory that `hnet-lm plan` foresees, beside what small real runs of this machine take.

    python benchmarks/plan_memory.py [--output FILE.json]

Each configuration is a process of its own that makes two updates: the second one has moments. Measured is the peak of
its resident memory from before the model to after the updates, as Linux counts it (VmHWM, reset through
/proc/self/clear_refs). Each tensor is mapped by itself (MALLOC_MMAP_THRESHOLD_), so that memory which is freed is not
counted.
"""

import argparse
import dataclasses
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, SourceConfig
from hnet_lm.data.tokenized import open_loader
from hnet_lm.losses import RatioLoss
from hnet_lm.model import HNetLM
from hnet_lm.training.activation_checkpointing import recompute_blocks
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.footprint import footprint
from hnet_lm.training.optimizer import build_optimizer
from hnet_lm.training.sections import LoopConfig, LossConfig, ModelSource
from hnet_lm.training.step import update

EACH_MAPPED = {"MALLOC_MMAP_THRESHOLD_": "65536"}
NUM_UPDATES = 2
ALONE = Ranks(0, 1, torch.device("cpu"))
# layout, widths, MLP widths, positions, longest sequence, recomputed, accumulation
CASES: dict[str, tuple[Any, list[int], list[int], int, int, bool, int]] = {
    "Mamba-2 and attention, one stage": (["m2", ["T4"], "m2"], [256, 384], [0, 1024], 4096, 1024, False, 1),
    "the same, blocks recomputed": (["m2", ["T4"], "m2"], [256, 384], [0, 1024], 4096, 1024, True, 1),
    "the same, two micro-batches": (["m2", ["T4"], "m2"], [256, 384], [0, 1024], 4096, 1024, False, 2),
    "two stages": (["m2", ["T1m1", ["T3"], "m1T1"], "m2"], [192, 256, 384], [0, 768, 1024], 4096, 1024, False, 1),
    "Mamba-2 alone": (["M4"], [384], [768], 4096, 512, False, 1),
    "attention alone": (["T6"], [384], [1024], 4096, 512, False, 1),
    "wide, few positions": (["m2", ["T6"], "m2"], [512, 1024], [0, 2816], 1024, 512, False, 1),
}


def run_of(name: str) -> tuple[RunConfig, HNetConfig]:
    layout, widths, mlps, positions, length, recomputes, accumulation = CASES[name]
    num_stages = len(widths)
    config = HNetConfig.from_dict(
        {
            "arch_layout": layout,
            "d_model": widths,
            "d_intermediate": mlps,
            "ssm_cfg": {"d_state": 64, "d_conv": 4, "expand": 2, "chunk_size": 64},
            "attn_cfg": {
                "num_heads": [width // 64 for width in widths],
                "rotary_emb_dim": [32] * num_stages,
                "window_size": [-1] * num_stages,
            },
        }
    )
    run = RunConfig(
        LoopConfig(
            "runs/unused",
            num_steps=NUM_UPDATES,
            precision="float32",
            accumulation=accumulation,
            activation_checkpointing=recomputes,
        ),
        ModelSource("unused"),
        DataConfig((SourceConfig("sample:english"),), tokens_per_batch=positions, max_length=length, shuffle_bytes=0),
        LossConfig(target_ratios=(3.0,) * config.num_stages),
    )
    return run, config


def status(key: str) -> int:
    """Bytes of resident memory, by the name that Linux has for them."""
    return 1024 * int(Path("/proc/self/status").read_text().partition(f"{key}:")[2].split()[0])


def measure(name: str) -> dict[str, Any]:
    """In a process of its own."""
    torch.set_num_threads(1)
    run, config = run_of(name)
    warm = dataclasses.replace(run.data, tokens_per_batch=256, max_length=128)
    _updates(run, HNetConfig.from_dict(TINY), warm)  # what the library and its loops take once
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    model, bytes_per_chunk = _updates(run, config, run.data)
    peak = status("VmHWM") - before
    foreseen = footprint(run, config, bytes_per_chunk, torch.float32, 1).peak
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "bytes_per_chunk": bytes_per_chunk, "measured": peak, "foreseen": foreseen}


TINY: dict[str, Any] = {
    "arch_layout": ["m1", ["T1"], "m1"],
    "d_model": [64, 64],
    "d_intermediate": [0, 64],
    "ssm_cfg": {"d_state": 64, "d_conv": 4, "expand": 2, "chunk_size": 64},
    "attn_cfg": {"num_heads": [1, 1], "rotary_emb_dim": [32, 32], "window_size": [-1, -1]},
}


def _updates(run: RunConfig, config: HNetConfig, data: DataConfig) -> tuple[HNetLM, list[float]]:
    """Three updates, and the bytes per chunk of the last one."""
    torch.manual_seed(0)
    model = HNetLM(config)
    if run.run.activation_checkpointing:
        recompute_blocks(model)
    ratios = (3.0,) * config.num_stages
    optimizer = build_optimizer(model, run.optimizer, ratios)
    loader = open_loader(data, vocab_size=config.vocab_size)
    sizes: list[float] = []
    for _ in range(NUM_UPDATES):
        batches = [next(loader) for _ in range(run.run.accumulation)]
        result = update(model, optimizer, batches, [RatioLoss(ratios)], 1.0, torch.float32, ALONE)
        num_bytes = run.run.accumulation * data.tokens_per_batch
        sizes = [num_bytes / float(num_chunks) for _, num_chunks, *_ in result.chunks]
    return model, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the table as JSON")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case)))
        return
    found = {}
    for name in CASES:
        command = [sys.executable, __file__, "--case", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **EACH_MAPPED})
        found[name] = json.loads(done.stdout.splitlines()[-1])
        measured, foreseen = found[name]["measured"], found[name]["foreseen"]
        sizes = f"measured {measured / 1e6:7.0f} MB  foreseen {foreseen / 1e6:7.0f} MB"
        print(f"{name:34} {sizes}  {foreseen / measured - 1:+.1%}", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
