"""The paper's comparison in small: H-Nets and what they compete with, at equal FLOPs per byte and equal data.

    python -m experiments.paper.run --corpora FOLDER                     # everything that is left; may be stopped
    python -m experiments.paper.run --corpora FOLDER --corpus english    # also several times side by side
    python -m experiments.paper.run                                      # the tables and figures of what is there

First every model is tried with each peak rate of `plan.py`, and BPE with each vocabulary, for 300 steps; the best by
bits per byte of the validation split is taken. Then the models are trained for 1000 steps of 4096 bytes and measured on
excerpts of the test split, of text of another domain, and of misspelt text, in pieces as long as the sequences of
training; and where H-Nets cut. Each command is printed before it runs. A stopped run goes on from its checkpoint, what
is done is not done again, and what another process is at is left to it.

Runs and what was measured of them are in runs/paper/CORPUS/; experiments/paper/CORPUS.json, .md and .png are made of
it. FOLDER has english/train.jsonl.xz and so on, as `plan.py` names them.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.common import answer, claimed, hnet_lm, require_finished, write, write_results
from experiments.paper import report
from experiments.paper.plan import (
    ABLATIONS,
    CORPORA,
    LENGTH,
    MAIN,
    OTHERS,
    RATES,
    TUNING_STEPS,
    VARIANTS,
    VOCABULARIES,
    Cell,
    fits,
)
from filelock import FileLock

from hnet_lm.baselines import FAMILIES
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.evaluation.curves import read_curve

HERE, RUNS = Path("experiments/paper"), Path("runs/paper")
EXCERPT_BYTES = {
    "pieces": 150_000,
    "validation": 150_000,
    "test": 300_000,
    "out_of_domain": 300_000,
    "misspelt": 50_000,
}
"""Of a split, taken in equal parts from the beginnings of all its documents. `pieces` is `validation` in documents as
long as the sequences of training: of longer ones a Transformer would be asked about positions it has not seen."""
SPLIT_OF = {"pieces": "validation", "misspelt": "validation"}
TOKENIZED_BYTES = 2_000_000
"""Of training text, on which the length of a token is measured."""
PATIENCE = 30.0
"""Seconds between two looks for a cell that nobody is at."""


def result_file(cell: Cell) -> Path:
    return RUNS / cell.corpus / f"{cell.name}.json"


def run_folder(cell: Cell) -> Path:
    return RUNS / cell.corpus / cell.name


def measured(cell: Cell) -> dict[str, Any] | None:
    path = result_file(cell)
    return json.loads(path.read_text()) if path.exists() else None


def cells_of(corpus: str) -> list[Cell]:
    """All whose rate is known, in the order in which they are worth most."""
    return list(dict.fromkeys(_cells_of(corpus)))


def _cells_of(corpus: str) -> Iterator[Cell]:
    for variants, num_seeds in ((MAIN, 1), (OTHERS, 1), (MAIN, 3), (ABLATIONS, 2)):
        if variants is ABLATIONS and CORPORA[corpus].tuned_on != corpus:
            continue
        for seed in range(min(num_seeds, CORPORA[corpus].num_seeds)):
            for name in variants:
                if fits(name, corpus):
                    yield from tuning_cells(corpus, name)
                    yield from vocabulary_cells(corpus) if name == "bpe" else ()
                    yield from model_cells(corpus, name, seed)


def tuning_cells(corpus: str, variant: str) -> list[Cell]:
    """The model with every rate, if it is tuned for itself and on this corpus."""
    if VARIANTS[variant].tuned_as or CORPORA[corpus].tuned_on != corpus:
        return []
    num_tokens = VOCABULARIES[1] if variant == "bpe" else 0
    return [Cell(corpus, variant, lr, num_steps=TUNING_STEPS, num_tokens=num_tokens) for lr in RATES]


def vocabulary_cells(corpus: str) -> list[Cell]:
    """BPE with every vocabulary, once its rate is known."""
    lr = best_rate(corpus, "bpe") if CORPORA[corpus].tuned_on == corpus else None
    return [] if lr is None else [Cell(corpus, "bpe", lr, 0, TUNING_STEPS, num) for num in VOCABULARIES]


def model_cells(corpus: str, variant: str, seed: int) -> list[Cell]:
    """The model at full length, once its rate is known; none or one."""
    tuned_on = CORPORA[corpus].tuned_on
    lr = best_rate(tuned_on, VARIANTS[variant].tuned_as or variant)
    num_tokens = best_vocabulary(tuned_on) if variant == "bpe" else 0
    return [] if lr is None or num_tokens is None else [Cell(corpus, variant, lr, seed, num_tokens=num_tokens)]


def best_rate(corpus: str, variant: str) -> float | None:
    """None until every rate has been tried."""
    best = _best(tuning_cells(corpus, variant))
    return best and best.lr


def best_vocabulary(corpus: str) -> int | None:
    best = _best(vocabulary_cells(corpus))
    return best and best.num_tokens


def _best(cells: Sequence[Cell]) -> Cell | None:
    found = [(result["validation"], cell) for cell in cells if (result := measured(cell))]
    return min(found, key=lambda pair: pair[0])[1] if found and len(found) == len(cells) else None


def config_of(cell: Cell, folder: Path) -> Path:
    """The matched architecture, written by `hnet-lm match` if it is not there; beside it the tokenizer."""
    corpus, variant = CORPORA[cell.corpus], VARIANTS[cell.variant]
    configs = RUNS / cell.corpus / "configs" / (f"bpe-{cell.num_tokens}" if cell.num_tokens else "")
    configs.mkdir(parents=True, exist_ok=True)
    path = configs / f"{variant.family}.json"
    with FileLock(configs / ".lock"):
        if not path.exists():
            one, two = corpus.target_ratios[1], corpus.target_ratios[2]
            sizes = ["--bytes-per-chunk", str(one[0]), "--other-bytes-per-chunk", str(two[0]), str(two[0] * two[1])]
            sizes += ["--stride", str(round(one[0])), "--sequence-length", str(LENGTH)]
            sizes += ["--num-tokens", str(cell.num_tokens)] if cell.num_tokens else []
            text = ["--text", corpus.split(folder, "train"), "--max-bytes", str(TOKENIZED_BYTES)]
            matched = configs / "matched"
            hnet_lm("match", "--to", "demo", "--family", variant.family, *sizes, *text, "--output", str(matched))
            for name in ("tokenizer.json", path.name):
                if (matched / name).exists():
                    (matched / name).replace(configs / name)
    if not variant.chunking:
        return path
    changed = configs / f"{cell.variant}.json"
    write(changed, json.dumps(json.loads(path.read_text()) | {"chunking": [dict(variant.chunking)]}))
    return changed


def train(cell: Cell, folder: Path) -> None:
    corpus, variant = CORPORA[cell.corpus], VARIANTS[cell.variant]
    config = config_of(cell, folder)
    options = ["--model.config", str(config), "--run.directory", str(run_folder(cell))]
    options += ["--run.seed", str(cell.seed), "--run.num-steps", str(cell.num_steps), "--optimizer.lr", str(cell.lr)]
    options += ["--data.sources.0.path", corpus.split(folder, "train"), "--data.seed", str(cell.seed)]
    options += ["--validation.sources.0.path", str(excerpt(cell.corpus, "pieces", folder))]
    options += ["--validation.sources.0.split", "train"]
    num_stages = FAMILIES[variant.family].num_stages
    multipliers = [2.0, 1.5, 1.0][: num_stages + 1] if variant.family.startswith("hnet") else [1.0]
    options += ["--optimizer.lr-multipliers", *map(str, multipliers)]
    if learns(config):
        options += ["--loss.target-ratios", *map(str, corpus.target_ratios[num_stages])]
        options += ["--loss.recipe", variant.recipe]
    if cell.num_tokens:  # batches and lengths still count bytes
        options += ["--data.tokenizer", str(config.with_name("tokenizer.json"))]
    hnet_lm("train", str(HERE / "run.toml"), *options, *variant.options)


def learns(config: Path) -> bool:
    """Whether the model learns where to cut."""
    return any(chunker.learns for chunker in HNetConfig.load(config).all_chunkers)


def measure(cell: Cell, folder: Path) -> dict[str, Any]:
    """Bits per byte of validation, and of a run of full length all that the report has."""
    corpus, run = CORPORA[cell.corpus], str(run_folder(cell))
    curve = read_curve(run)
    found: dict[str, Any] = {"validation": float(curve.bits_per_byte[-1]), "bytes_read": float(curve.bytes_seen[-1])}
    if cell.num_steps == TUNING_STEPS:
        return found
    found["curve"] = {
        "bytes_seen": curve.bytes_seen.tolist(),
        "bits_per_byte": curve.bits_per_byte.tolist(),
        "bytes_before_decay": curve.bytes_before_decay,
    }

    def compare(what: str, *options: str) -> dict[str, Any]:
        text = ["--text", str(excerpt(cell.corpus, what, folder)), "--document-bytes", str(LENGTH)]
        (facts,) = answer("compare", run, *text, *options).values()
        return facts

    found |= {what: compare(what) for what in ("test", "out_of_domain")}
    if corpus.is_text:
        found["misspelt"] = compare("misspelt", "--perturb")
    if learns(run_folder(cell) / "config.json"):
        cuts = answer("evaluate", "boundaries", run, str(excerpt(cell.corpus, "validation", folder)))
        found["boundaries"] = next(iter(cuts["domains"].values()))
    return found


def excerpt(corpus: str, what: str, folder: Path) -> Path:
    """The text that is measured, as a file of its own; written if it is not there."""
    path = RUNS / corpus / f"{what}.jsonl"
    if not path.exists():
        split = CORPORA[corpus].out_of_domain if what == "out_of_domain" else SPLIT_OF.get(what, what)
        source = SourceConfig(CORPORA[corpus].split(folder, split))
        texts = [document.data for document in documents(DataConfig((source,)))]
        size = max(EXCERPT_BYTES[what] // len(texts) // LENGTH, 1) * LENGTH
        chosen = texts[:: max(len(texts) * size // EXCERPT_BYTES[what], 1)]
        length = LENGTH if what == "pieces" else size
        pieces = [text[start : start + length] for text in chosen for start in range(0, min(size, len(text)), length)]
        lines = [json.dumps({"text": piece.decode("utf-8", "ignore")}) + "\n" for piece in pieces]
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, "".join(lines))
    return path


def run(corpus: str, folder: Path) -> None:
    """Every cell of the corpus that nobody is at, until all are done."""
    while left := [cell for cell in cells_of(corpus) if measured(cell) is None]:
        print(f"{len(left)} cells of {corpus} are left, {time_left(corpus, left)}", flush=True)
        if not any(run_cell(cell, folder) for cell in left):
            time.sleep(PATIENCE)


def run_cell(cell: Cell, folder: Path) -> bool:
    """Whether it was run here: not where another process is at it, or was done with it in the meantime."""
    began = time.monotonic()
    with claimed(result_file(cell)) as is_ours:
        if is_ours:
            train(cell, folder)
            require_finished(run_folder(cell), cell.num_steps)
            write(result_file(cell), json.dumps(measure(cell, folder) | {"seconds": time.monotonic() - began}) + "\n")
    return is_ours


def time_left(corpus: str, left: Sequence[Cell]) -> str:
    """By the seconds per byte of the cells that are done; of models whose rate is not known yet nothing is said."""
    done = [(result, cell) for cell in cells_of(corpus) if (result := measured(cell))]
    if not done:
        return "an unknown time"
    rate = mean(result["seconds"] / cell.num_bytes for result, cell in done)
    return f"about {rate * sum(cell.num_bytes for cell in left) / 60:.0f} minutes"


def collect(corpus: str) -> None:
    """The tables and figures of all cells that are done."""
    results = {cell: result for cell in cells_of(corpus) if (result := measured(cell))}
    if results:
        facts = {cell.name: vars(cell) | {"result": result} for cell, result in results.items()}
        write_results(HERE / f"{corpus}.json", facts)
        write(HERE / f"{corpus}.md", report.page(facts))
        report.save_figure(facts, HERE / f"{corpus}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, help="folder of the corpora; without it nothing is trained")
    parser.add_argument("--corpus", nargs="+", choices=CORPORA, default=list(CORPORA))
    options = parser.parse_args()
    for corpus in options.corpus:
        if options.corpora:
            run(corpus, options.corpora)
        collect(corpus)


if __name__ == "__main__":
    main()
