"""A model of bytes distilled from a model of tokens, beside the same model without a teacher: three seeds of each.

    python -m experiments.distillation.run

Trains the teacher (the Transformer over BPE tokens that `hnet-lm match` finds for the run `demo`), then students on the
same 5 MB with and without it, and measures bits per byte and where they cut: against the tokenizer's cuts and against
spaces. Prints each command before it; what is done already is not done again. The runs are in runs/distillation/, the
table is written to experiments/distillation/english.md.
"""

from pathlib import Path
from typing import Any

from experiments.common import answer, hnet_lm, printed

HERE = Path("experiments/distillation")
RUNS = Path("runs/distillation")
TEACHER = RUNS / "teacher"
SEEDS = (0, 1, 2)
NUM_BYTES = 5_000_000
TOKENS_PER_BATCH = 4096
STEPS = str(NUM_BYTES // TOKENS_PER_BATCH)
NUM_TOKENS = "1024"
HELD_OUT = "sample:english"
OUTER = ["--width", "128", "--encoder", "m2", "--decoder", "m2"]


def train_teacher() -> None:
    configs = HERE / "configs"
    if not (configs / "bpe.toml").exists():
        hnet_lm("match", "--to", "demo", "--family", "bpe", "--num-tokens", NUM_TOKENS, "--output", str(configs))
    hnet_lm("train", str(configs / "bpe.toml"), "--run.directory", str(TEACHER))


def train_students(seed: int) -> tuple[Path, Path]:
    """With the teacher, and without it: the same architecture, data and number of updates."""
    taught, alone = RUNS / f"taught-{seed}", RUNS / f"alone-{seed}"
    same = ["--run.num-steps", STEPS, "--data.tokens-per-batch", str(TOKENS_PER_BATCH), "--run.seed", str(seed)]
    lessons = ["--lessons", str(RUNS / "lessons")]
    hnet_lm("distill", "demo", "--teacher", str(TEACHER), *OUTER, *lessons, "--run.directory", str(taught), *same)
    config = ["--model.config", str(taught.with_name(f"{taught.name}-student.json"))]
    hnet_lm("train", "demo", *config, "--run.directory", str(alone), *same)
    return taught, alone


def row(name: str, run: Path) -> str:
    found: dict[str, Any] = answer("evaluate", "bpb", str(run), HELD_OUT)
    low, high = found["interval_95"] or (float("nan"), float("nan"))
    cuts = printed("evaluate", "boundaries", str(run), HELD_OUT, "--bpe", str(TEACHER / "tokenizer.json"))
    (HERE / f"{run.name}-boundaries.txt").write_text(cuts)
    return f"| {name} | {found['bits_per_byte']:.4f} | {low:.4f}-{high:.4f} |"


def run() -> None:
    train_teacher()
    teacher: dict[str, Any] = answer("evaluate", "bpb", str(TEACHER), HELD_OUT)
    rows = [f"| teacher, the tokenizer's spelling | {teacher['bits_per_byte']:.4f} | |"]
    spelled = teacher["spellings"]
    rows.append(f"| teacher, first {spelled['num_bytes']:,} bytes, that spelling | {spelled['canonical']:.4f} | |")
    rows.append(f"| teacher, first {spelled['num_bytes']:,} bytes, all | {spelled['all_spellings']:.4f} | |")
    for seed in SEEDS:
        taught, alone = train_students(seed)
        rows += [row(f"student {seed}, taught", taught), row(f"student {seed}, alone", alone)]
    table = "\n".join(["| model | bits/byte | 95 % |", "| --- | ---: | ---: |", *rows])
    (HERE / "english.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    run()
