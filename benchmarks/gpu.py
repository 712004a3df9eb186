"""On a GPU: the scan beside that of mamba-ssm and fla, a training step and its kernels, and decoding.

    python benchmarks/gpu.py [--model hnet_1stage_L] [--sequences 8] [--length 8192] [--output FILE.json]

Prints JSON with the card's name. mamba-ssm and fla are measured where they are installed. Every op, other training
steps and decoding of which each byte comes to the host are measured on a GPU by `run.py --only ops training decoding`.
"""

import argparse
import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from hnet_lm.config import MAMBA2_HEAD_DIM, HNetConfig
from hnet_lm.generation.stepper import StaticStepper, build_stepper
from hnet_lm.losses import next_byte_loss
from hnet_lm.model import HNetLM
from hnet_lm.ops.ssd import ssd
from hnet_lm.sequences import Sequences
from speed.machine import machine_facts, provenance, report
from speed.timing import in_turn

ROUNDS = 20
NUM_PROMPT, NUM_WRITTEN = 512, 64
"""Bytes of each stream, random ones and those that are timed."""
POOL_BYTES = 1 << 34
NUM_KERNELS = 30
"""Kernels of a training step that are listed, dearest first."""


def scans(config: HNetConfig, seqs: Sequences) -> dict[str, Any]:
    """Forward and backward of the scan of the outermost stage, in bfloat16, by whoever is installed."""
    t, n, p = seqs.num_positions, config.mamba2.d_state, MAMBA2_HEAD_DIM
    h = config.stages[0].d_model * config.mamba2.expand // p
    x, B, C = (_leaf(t, *shape) for shape in ((h, p), (n,), (n,)))
    dt, A, D = _leaf(t, h).detach().float().sigmoid().requires_grad_(), -torch.ones(h, device="cuda"), _leaf(h).float()
    calls: dict[str, Callable[[], Tensor]] = {"hnet-lm": lambda: ssd(x, dt, A, B, C, D, seqs)[0]}
    if importlib.util.find_spec("mamba_ssm"):
        mamba = importlib.import_module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan_combined
        ids = seqs.sequence_ids.int()[None]
        calls["mamba-ssm"] = lambda: mamba(
            x[None], dt[None], A, B[None, :, None], C[None, :, None], 256, D=D, seq_idx=ids
        )
    if importlib.util.find_spec("fla"):
        gla = importlib.import_module("fla.ops.simple_gla").chunk_simple_gla
        ends = seqs.cu_seqlens
        calls["fla"] = lambda: gla(
            C[None, :, None].expand(1, t, h, n),
            B[None, :, None].expand(1, t, h, n),
            (x * dt[..., None].to(x.dtype))[None],
            (dt * A)[None],
            scale=1.0,
            cu_seqlens=ends,
        )[0]
    runs = {key: (lambda call=call: call().float().sum().backward()) for key, call in calls.items()}
    return dict(in_turn(runs, ROUNDS, torch.device("cuda")))


def _leaf(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.bfloat16, device="cuda", requires_grad=True)


def training(config: HNetConfig, seqs: Sequences) -> dict[str, Any]:
    """Forward, loss and backward of random weights in bfloat16, and where its time goes."""
    model = HNetLM(config).cuda()
    ids = torch.randint(256, (seqs.num_positions,), device="cuda")

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(ids, seqs).logits
        next_byte_loss(logits, ids.roll(-1)).backward()
        model.zero_grad()

    timing = in_turn({"step": step}, ROUNDS, torch.device("cuda"))["step"]
    torch.cuda.reset_peak_memory_stats()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    kernels = sorted(profiler.key_averages(), key=lambda each: -each.device_time_total)[:NUM_KERNELS]
    return {
        **timing,
        "bytes_per_second": seqs.num_positions / timing["seconds"],
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
        "kernels": [{"name": k.key, "count": k.count, "seconds": k.device_time_total * 1e-6} for k in kernels],
    }


def decoding(config: HNetConfig, num_streams: int) -> dict[str, Any]:
    """Bytes drawn at temperature 1 from random weights in bfloat16, by the stepper that this model gets."""
    model = HNetLM(config).cuda()
    stepper = build_stepper(model, num_streams, weights="bfloat16", pool_bytes=POOL_BYTES)
    streams = [stepper.admit() for _ in range(num_streams)]
    stepper.extend(streams, torch.randint(254, (num_streams, NUM_PROMPT)).tolist())
    if not isinstance(stepper, StaticStepper):
        return {"stepper": type(stepper).__name__}
    uniforms = torch.rand(NUM_WRITTEN, num_streams, dtype=torch.float64)
    write = partial(stepper.write, streams, NUM_WRITTEN, temperature=[1.0] * num_streams, uniforms=uniforms)
    timing = in_turn({"write": write}, ROUNDS // 4, torch.device("cuda"))["write"]
    bytes_per_second = num_streams * NUM_WRITTEN / timing["seconds"]
    return {"stepper": type(stepper).__name__, **timing, "bytes_per_second": bytes_per_second}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hnet_1stage_L")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU here, and nothing of this can be measured without one")
    config = HNetConfig.load(arguments.model)
    seqs = Sequences.from_lengths([arguments.length] * arguments.sequences, device="cuda")
    results = {
        "machine": machine_facts(torch.device("cuda")),
        "measured": provenance(),
        "model": arguments.model,
        "scan, forward and backward": scans(config, seqs),
        "training step": training(config, seqs),
        "decoding": {num: decoding(config, num) for num in (1, 16, 64, 256)},
    }
    report(results, arguments.output)


if __name__ == "__main__":
    main()
