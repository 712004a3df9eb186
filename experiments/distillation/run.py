"""A model of bytes distilled from a model of tokens, beside the same model without a teacher: three seeds of each.

    python -m experiments.distillation.run --corpora FOLDER    # everything that is left; may be stopped, also several
                                                               # times side by side
    python -m experiments.distillation.run                     # the table of what is there

The teacher is the Transformer over BPE tokens of `experiments.paper`, which has to have found its rate and vocabulary,
trained on 8.2 MB of English. Its blocks are the main network of the students, which read 5 MB: those that are taught
with the teacher's cuts, embeddings and next-byte probabilities, those that are alone with the recipe for small models
and drawn weights. All aim at as many bytes per chunk as the teacher's tokens have. Measured are bits per byte of the
test split and where the students cut, beside the teacher's tokens and spaces. Each command is printed before it runs,
what is done is not done again, and what another process is at is left to it.

Runs and results are in runs/distillation/; experiments/distillation/english.json and .md are made of them.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments.common import Estimate, answer, claimed, hnet_lm, markdown, require_finished, write, write_results
from experiments.paper import run as paper
from experiments.paper.plan import CORPORA, LENGTH, Cell

from hnet_lm.checkpoint import CONFIG
from hnet_lm.config import HNetConfig
from hnet_lm.data.tokenized import TOKENIZER
from hnet_lm.distillation import student_config
from hnet_lm.tokenizer import load_tokenizer

HERE, RUNS = Path("experiments/distillation"), Path("runs/distillation")
CORPUS, LR_OF = "english", "1stage"
"""The corpus, and the model of the comparison whose rate the students take."""
TEACHER_STEPS, STUDENT_STEPS = 2000, 1250
SEEDS = (0, 1, 2)
WIDTH, OUTER = 96, "m2"
"""Of encoder and decoder; the teacher is 112 wide, and they may not be wider."""
SPELLED_BYTES = 1000
"""Of the test text, on which the teacher is asked over all spellings."""
PATIENCE = 30.0
"""Seconds between two looks for a run that nobody is at."""


@dataclass(frozen=True)
class Student:
    """One run."""

    is_taught: bool
    seed: int

    @property
    def name(self) -> str:
        return f"{'taught' if self.is_taught else 'alone'}-{self.seed}"


STUDENTS = tuple(Student(is_taught, seed) for seed in SEEDS for is_taught in (True, False))
TEACHER = "teacher"


def teacher() -> Cell:
    """As the comparison names its runs."""
    lr, num_tokens = paper.best_rate(CORPUS, "bpe"), paper.best_vocabulary(CORPUS)
    if lr is None or num_tokens is None:
        raise SystemExit(f"the rate of BPE comes first: python -m experiments.paper.run --corpus {CORPUS} ...")
    return Cell(CORPUS, "bpe", lr, 0, TEACHER_STEPS, num_tokens)


def result_file(name: str) -> Path:
    return RUNS / f"{name}.json"


def measured(name: str) -> dict[str, Any] | None:
    path = result_file(name)
    return json.loads(path.read_text()) if path.exists() else None


def train_teacher(folder: Path) -> dict[str, Any]:
    run = paper.run_folder(teacher())
    paper.train(teacher(), folder)
    require_finished(run, TEACHER_STEPS)
    text = paper.excerpt(CORPUS, "test", folder)
    spelled = answer("evaluate", "bpb", str(run), str(text), "--spelling-bytes", str(SPELLED_BYTES))
    data = b"".join(json.loads(line)["text"].encode() for line in text.read_text().splitlines())
    num_tokens = len(load_tokenizer(run).encode(data).ids)
    return {"test": bits(run, text), "spellings": spelled["spellings"], "bytes_per_token": len(data) / num_tokens}


def train_student(student: Student, folder: Path) -> dict[str, Any]:
    """Raises SystemExit where it is stopped."""
    run = RUNS / student.name
    found = measured(TEACHER)
    assert found is not None
    options = ["--run.directory", str(run), "--run.num-steps", str(STUDENT_STEPS), "--run.seed", str(student.seed)]
    options += ["--data.sources.0.path", CORPORA[CORPUS].split(folder, "train")]
    options += ["--optimizer.lr", str(paper.best_rate(CORPUS, LR_OF)), "--optimizer.lr-multipliers", "2.0", "1.5"]
    options += ["--loss.target-ratios", f"{found['bytes_per_token']:.2f}"]
    options += ["--validation.sources.0.path", str(paper.excerpt(CORPUS, "pieces", folder))]
    options += ["--validation.sources.0.split", "train"]
    run_file = str(paper.HERE / "run.toml")
    outer = ["--width", str(WIDTH), "--encoder", OUTER, "--decoder", OUTER]
    lessons = ["--teacher", str(paper.run_folder(teacher())), *outer, "--lessons", str(RUNS / "lessons")]
    if student.is_taught:
        hnet_lm("distill", run_file, *lessons, *options)
    else:
        config = student_config(
            HNetConfig.load(paper.run_folder(teacher()) / CONFIG), d_model=WIDTH, encoder=OUTER, decoder=OUTER
        )
        architecture = RUNS / "alone.json"
        write(architecture, json.dumps(config.to_dict()))
        hnet_lm("train", run_file, "--model.config", str(architecture), *options, "--loss.recipe", "small")
    require_finished(run, STUDENT_STEPS)
    text = paper.excerpt(CORPUS, "test", folder)
    cuts = answer("evaluate", "boundaries", str(run), str(text), "--bpe", str(paper.run_folder(teacher()) / TOKENIZER))
    (domain,) = cuts["domains"].values()
    return {"test": bits(run, text), "boundaries": domain[0]}


def bits(run: Path, text: Path) -> dict[str, Any]:
    """As the comparison measures them."""
    (facts,) = answer("compare", str(run), "--text", str(text), "--document-bytes", str(LENGTH)).values()
    return facts


def run(folder: Path) -> None:
    """The teacher, then every student that nobody is at, until all are done."""
    makers = {TEACHER: train_teacher} | {student.name: partial(train_student, student) for student in STUDENTS}
    while left := [name for name in makers if measured(name) is None]:
        print(f"left: {', '.join(left)}", flush=True)
        ready = left[:1] if TEACHER in left else left
        if not any(make(name, makers[name], folder) for name in ready):
            time.sleep(PATIENCE)


def make(name: str, maker: Callable[[Path], dict[str, Any]], folder: Path) -> bool:
    """Whether it was made here."""
    with claimed(result_file(name)) as is_ours:
        if is_ours:
            write(result_file(name), json.dumps(maker(folder)) + "\n")
    return is_ours


def collect() -> None:
    """The table of all that is there."""
    results = {name: found for name in (TEACHER, *(s.name for s in STUDENTS)) if (found := measured(name))}
    if TEACHER not in results:
        return
    write_results(HERE / f"{CORPUS}.json", results)
    spelled = results[TEACHER]["spellings"]
    bytes_per_token, test = results[TEACHER]["bytes_per_token"], results[TEACHER]["test"]["bits_per_byte"]
    rows = [row for is_taught in (True, False) if (row := row_of(is_taught, results))]
    lines = [
        f"The teacher: {test:.3f} bits per byte, {bytes_per_token:.2f} bytes per token. On the first "
        f"{spelled['num_bytes']:,} bytes {spelled['canonical']:.3f} by the tokenizer's spelling, "
        f"{spelled['all_spellings']:.3f} by the {spelled['max_spellings']} likeliest spellings.\n",
        markdown(("students", "seeds", *COLUMNS), rows),
    ]
    write(HERE / f"{CORPUS}.md", "\n".join(lines))


COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "bits per byte": lambda found: found["test"]["bits_per_byte"],
    "bytes per chunk": lambda found: found["boundaries"]["bytes_per_chunk"],
    "F1 with the teacher's tokens": lambda found: agreement(found, "tokens of")["f1"],
    "by chance": lambda found: agreement(found, "tokens of")["chance_f1"],
    "F1 with spaces": lambda found: agreement(found, "spaces")["f1"],
    "chance": lambda found: agreement(found, "spaces")["chance_f1"],
}


def agreement(found: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
    return next(row for row in found["boundaries"]["agreement"] if row["reference"].startswith(reference))


def row_of(is_taught: bool, results: Mapping[str, Any]) -> list[str]:
    """Means over seeds; nothing where there is none."""
    ours = [results[student.name] for student in STUDENTS if student.is_taught == is_taught and student.name in results]
    cells = [str(Estimate.of([value(found) for found in ours])) for value in COLUMNS.values()] if ours else []
    return ["taught" if is_taught else "alone", str(len(ours)), *cells] if ours else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, help="folder of the corpora; without it nothing is trained")
    options = parser.parse_args()
    if options.corpora:
        run(options.corpora)
    collect()


if __name__ == "__main__":
    main()
