"""What the GPU kernels need of a card, read from machine code compiled without one, and the least time they could take.

    python benchmarks/gpu_kernels.py [--targets sm_90 ...] [--write]

Every kernel of a training step of the six published models is compiled in each of its configurations. --write puts the
tables into docs/gpu.md, in place of those there. Nothing here is timed on a GPU: times are bytes over bandwidth and
FLOPs over the peak of the tensor cores.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import forward_flops_per_byte, stage_lengths
from hnet_lm.ops.kernels.launch import Launch
from hnet_lm.testing.kernel_compiler import (
    TARGETS,
    Compiled,
    compiled,
    model_launches,
    name,
    num_bytes,
    part_launches,
    parts_of,
)

PAGE = Path(__file__).parents[1] / "docs" / "gpu.md"
MODELS = [
    f"hnet_{size}" for size in ("1stage_L", "1stage_XL", "2stage_L", "2stage_XL", "2stage_XL_chinese", "2stage_XL_code")
]
CARDS = {"A100": (2.039e12, 312e12), "H100": (3.35e12, 989e12)}
"""Bytes/s of memory and bfloat16 FLOP/s of the tensor cores: NVIDIA's data sheets, SXM with 80 GB."""
SHARE_OF_BANDWIDTH, SHARE_OF_PEAK = 0.7, 0.6
"""What a prediction assumes that kernels and matrix products reach."""
NUM_POSITIONS, LENGTH = 4096, 8192
BYTES_PER_CHUNK = {"hnet_1stage_L": [4.8], "hnet_2stage_XL": [2.6, 7.0]}
"""Bytes of input per chunk of each stage; of the innermost about what the paper reports of trained models."""


def resources(targets: Sequence[str]) -> Iterator[str]:
    """A row per kernel and target: the configuration that fits best, and how many spill or do not fit."""
    yield "| kernel | card | warps | registers | spilled bytes | shared memory | tensor cores | do not fit |"
    yield "|---|---|---|---|---|---|---|---|"
    for target in targets:
        by_name: dict[str, list[list[Compiled]]] = {}
        for launch in _launches():
            by_name.setdefault(name(launch), []).append(list(compiled(launch, target)))
        for kernel, variants in sorted(by_name.items()):
            best = [min(tried, key=lambda each: (not each.fits, each.spilled, each.shared)) for tried in variants]
            worst = max(best, key=lambda each: (each.spilled, each.registers))
            multiplies = "yes" if all(each.uses_tensor_cores for each in best) else "no"
            tried = [each for variant in variants for each in variant]
            spilling = sum(each.spilled > 0 or not each.fits for each in tried)
            yield (
                f"| {kernel} | {target} | {worst.num_warps} | {worst.registers} | {worst.spilled} "
                f"| {max(each.shared for each in best) / 1024:.0f} KB | {multiplies if worst.multiplies else ''} "
                f"| {spilling} of {len(tried)} |"
            )


def _launches() -> list[Launch]:
    """Those of all models, each variant once."""
    found = [each for model in MODELS for each in model_launches(HNetConfig.load(model), NUM_POSITIONS)]
    return list({f"{name(each)} {sorted(each.options.items())}": each for each in found}.values())


def traffic(model: str) -> Iterator[str]:
    """Bytes per position of each kernel of the outermost and the innermost stage, and the least time for 65,536."""
    config = HNetConfig.load(model)
    yield "| part | kernel | bytes per position | least time for 65,536 positions, H100 | A100 |"
    yield "|---|---|---|---|---|"
    for i in (0, len(config.stages) - 1):
        for part, count in parts_of(config.stages[i]).items():
            for launch in part_launches(config, config.stages[i], part, NUM_POSITIONS) if count else ():
                size = num_bytes(launch) / NUM_POSITIONS
                times = [f"{size * 65536 / CARDS[card][0] * 1e3:.3f} ms" for card in ("H100", "A100")]
                where = f"{part}, width {config.stages[i].d_model}"
                yield f"| {where} | {name(launch)} | {size:,.0f} | {' | '.join(times)} |"


def prediction(model: str) -> Iterator[str]:
    """Of a training step of 8 x 8192 bytes."""
    config, chunks = HNetConfig.load(model), BYTES_PER_CHUNK[model]
    kernel_bytes = 0.0
    lengths = stage_lengths(config, chunks, LENGTH)
    for stage, length, inner in zip(config.stages, lengths, [*lengths[1:], 0], strict=True):
        for part, count in parts_of(stage).items():
            positions = 8 * (inner if part == "smoothing" else length)
            launches = part_launches(config, stage, part, NUM_POSITIONS) if count else ()
            kernel_bytes += count * positions * sum(map(num_bytes, launches)) / NUM_POSITIONS
    flops = 3 * sum(forward_flops_per_byte(config, chunks, LENGTH).values()) * 8 * LENGTH
    for card, (bandwidth, peak) in CARDS.items():
        least = kernel_bytes / bandwidth + flops / peak
        assumed = kernel_bytes / bandwidth / SHARE_OF_BANDWIDTH + flops / peak / SHARE_OF_PEAK
        yield (
            f"| {model} | {card} | {kernel_bytes / 1e9:,.0f} GB | {flops / 1e12:,.0f} TFLOP | {least * 1e3:,.0f} ms "
            f"| {assumed * 1e3:,.0f} ms | {8 * LENGTH / assumed / 1e3:,.0f} kB/s |"
        )


def write(title: str, rows: list[str]) -> None:
    """Replace what stands between the marks of this title."""
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {title} -->\n).*?(<!-- end -->)", re.DOTALL)
    body = "\n".join(["", *rows, "", ""])
    PAGE.write_text(pattern.sub(lambda found: found[1] + body + found[2], text), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    head = [
        "| model | card | memory traffic of the kernels | FLOPs | least time | predicted time | predicted speed |",
        "|---|---|---|---|---|---|---|",
    ]
    tables = {
        "traffic": list(traffic("hnet_1stage_L")),
        "prediction": [*head, *(row for model in BYTES_PER_CHUNK for row in prediction(model))],
        "resources": list(resources(arguments.targets)),
    }
    for title, rows in tables.items():
        print("\n".join(rows), end="\n\n")
        if arguments.write:
            write(title, rows)


if __name__ == "__main__":
    main()
