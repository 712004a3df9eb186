"""What ragged documents cost: a training step on lengths as of the web, beside one on equal rows of the same FLOPs.

    python benchmarks/ragged.py [--positions 65536] [--rounds 5] [--output FILE.json]

The model is a Transformer over bytes with global attention, the worst case of padding. Lengths are log-normal with a
median of 2,200 bytes. With n equal rows instead, the positions are as many, and the pairs of queries and keys nearly;
what is left of the difference is divided out by FLOPs. Prints JSON.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hnet_lm.attention_config import AttentionConfig
from hnet_lm.config import HNetConfig
from hnet_lm.data import Batch
from hnet_lm.model import HNetLM
from hnet_lm.model.flops import forward_flops_per_byte
from hnet_lm.sequences import Sequences
from hnet_lm.stage_config import Mamba2Config, StageConfig
from speed.bench_model import english
from speed.machine import choose_device, machine_facts, provenance, report
from speed.timing import in_turn
from speed.update_step import UpdateStep

MEDIAN, SIGMA = 2200, 1.0
STAGE = StageConfig(256, 512, AttentionConfig(num_heads=4, rotary_emb_dim=32), main_network="T4")


def web_lengths(num_positions: int) -> list[int]:
    """Of documents; the last one is cut at its end."""
    drawn = np.random.default_rng(0).lognormal(np.log(MEDIAN), SIGMA, 2 + num_positions // 200).astype(int)
    ends = np.minimum(drawn.cumsum(), num_positions)
    return [int(length) for length in np.diff(ends, prepend=0) if length]


def equal_lengths(lengths: list[int]) -> list[int]:
    """As many positions in rows as long as the document that a pair of query and key is in on average."""
    num_positions = sum(lengths)
    num_rows = max(1, round(num_positions**2 / sum(length**2 for length in lengths)))
    return [num_positions // num_rows + (row < num_positions % num_rows) for row in range(num_rows)]


def flops(config: HNetConfig, lengths: list[int]) -> float:
    """Of a forward pass."""
    return sum(length * sum(forward_flops_per_byte(config, [], length).values()) for length in lengths)


def step_on(config: HNetConfig, lengths: list[int], device: torch.device) -> UpdateStep:
    torch.manual_seed(0)
    ids = english(sum(lengths), device)
    seqs = Sequences.from_lengths(lengths, device=device)
    origin = torch.zeros(len(lengths), 5, dtype=torch.int64)  # where in the data: nobody asks
    return UpdateStep(HNetLM(config).to(device), Batch(ids, ids.roll(-1), seqs, origin, len(ids)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device = choose_device()
    config = HNetConfig((STAGE,), Mamba2Config(), 256)
    ragged = web_lengths(arguments.positions)
    subjects = {"ragged": ragged, "equal rows": equal_lengths(ragged)}
    steps = {name: step_on(config, lengths, device) for name, lengths in subjects.items()}
    timings = in_turn(steps, arguments.rounds, device)
    rows: dict[str, Any] = {
        name: {"lengths": lengths, "flops": flops(config, lengths), **timings[name]}
        for name, lengths in subjects.items()
    }
    seconds_per_flop = [row["seconds"] / row["flops"] for row in rows.values()]
    results = {
        "machine": machine_facts(device),
        "measured": provenance(),
        **rows,
        "time of ragged documents over that of equal rows of the same FLOPs": seconds_per_flop[0] / seconds_per_flop[1],
        "rows if padded to the longest, over positions": len(ragged) * max(ragged) / sum(ragged),
    }
    report(results, arguments.output)


if __name__ == "__main__":
    main()
