"""The paper's comparison in small: H-Nets and what they compete with, at equal FLOPs per byte and equal data.

    python -m experiments.paper.run --corpora FOLDER                     # everything that is left; may be stopped
    python -m experiments.paper.run --corpora FOLDER --only rates --corpus english
    python -m experiments.paper.run --corpora FOLDER --part 1/2          # every second cell, beside another process
    python -m experiments.paper.run                                      # the tables and figures of what is there

First every model is tried with each peak rate of `plan.py`, and BPE with each vocabulary, for 300 steps; the best by
bits per byte of the validation split is taken. Then the models are trained for 1000 steps of 4096 bytes and measured on
excerpts of the test split, of text of another domain, and of misspelt text, in pieces as long as the sequences of
training; and where H-Nets cut. Each command is printed before it runs. A stopped run goes on from its checkpoint, and
what is done is not done again.

Runs and what was measured of them are in runs/paper/CORPUS/; experiments/paper/CORPUS.json, .md and .png are made of
it. FOLDER has english/train.jsonl.xz and so on, as `plan.py` names them.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.common import answer, hnet_lm, write, write_results
from experiments.paper import report
from experiments.paper.plan import (
    BYTES_PER_STEP,
    CORPORA,
    LENGTH,
    RATES,
    SEEDED,
    TUNING_STEPS,
    VARIANTS,
    VOCABULARIES,
    Cell,
    variants_of,
)

from hnet_lm.baselines import FAMILIES
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, SourceConfig, documents, open_byte_pairs
from hnet_lm.evaluation.curves import read_curve

HERE, RUNS = Path("experiments/paper"), Path("runs/paper")
EXCERPT_BYTES = {"validation": 150_000, "test": 300_000, "out_of_domain": 300_000, "misspelt": 50_000}
"""Of a split, taken in equal parts from the beginnings of all its documents."""
TOKENIZED_BYTES = 2_000_000
"""Of training text, on which the length of a token is measured."""
PARTS = ("rates", "vocabularies", "models")


def result_file(cell: Cell) -> Path:
    return RUNS / cell.corpus / f"{cell.name}.json"


def run_folder(cell: Cell) -> Path:
    return RUNS / cell.corpus / cell.name


def measured(cell: Cell) -> dict[str, Any] | None:
    path = result_file(cell)
    return json.loads(path.read_text()) if path.exists() else None


def tuning_cells(corpus: str) -> list[Cell]:
    """Every model that is tuned for itself, with every rate."""
    return [
        Cell(corpus, name, lr, num_steps=TUNING_STEPS, num_tokens=VOCABULARIES[1] if name == "bpe" else 0)
        for lr in RATES
        for name in variants_of(corpus)
        if not VARIANTS[name].tuned_as
    ]


def vocabulary_cells(corpus: str) -> list[Cell]:
    lr = best_rate(corpus, "bpe")
    return [] if lr is None else [Cell(corpus, "bpe", lr, 0, TUNING_STEPS, num) for num in VOCABULARIES]


def model_cells(corpus: str) -> list[Cell]:
    """Of all models whose rate is known: those of the first seed first."""
    return list(_model_cells(corpus))


def _model_cells(corpus: str) -> Iterator[Cell]:
    tuned_on = CORPORA[corpus].tuned_on
    for seed in range(CORPORA[corpus].num_seeds):
        for name in variants_of(corpus):
            lr = best_rate(tuned_on, VARIANTS[name].tuned_as or name)
            num_tokens = best_vocabulary(tuned_on) if name == "bpe" else 0
            if lr is not None and num_tokens is not None and (seed == 0 or name in SEEDED):
                yield Cell(corpus, name, lr, seed, num_tokens=num_tokens)


def best_rate(corpus: str, variant: str) -> float | None:
    """None until every rate has been tried."""
    best = _best([cell for cell in tuning_cells(corpus) if cell.variant == variant])
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
    path = configs / f"{variant.family}.json"
    if not path.exists():
        one, two = corpus.target_ratios[1], corpus.target_ratios[2]
        sizes = ["--bytes-per-chunk", str(one[0]), "--other-bytes-per-chunk", str(two[0]), str(two[0] * two[1])]
        sizes += ["--stride", str(round(one[0])), "--sequence-length", str(LENGTH)]
        sizes += ["--num-tokens", str(cell.num_tokens)] if cell.num_tokens else []
        output = RUNS / "matched"
        text = ["--text", corpus.split(folder, "train"), "--max-bytes", str(TOKENIZED_BYTES)]
        hnet_lm("match", "--to", "demo", "--family", variant.family, *sizes, *text, "--output", str(output))
        configs.mkdir(parents=True, exist_ok=True)
        for name in (path.name, "tokenizer.json"):
            if (output / name).exists():
                (output / name).replace(configs / name)
    return path


def train(cell: Cell, folder: Path) -> None:
    corpus, variant = CORPORA[cell.corpus], VARIANTS[cell.variant]
    config = config_of(cell, folder)
    options = ["--model.config", str(config), "--run.directory", str(run_folder(cell))]
    options += ["--run.seed", str(cell.seed), "--run.num-steps", str(cell.num_steps), "--optimizer.lr", str(cell.lr)]
    options += ["--data.sources.0.path", corpus.split(folder, "train"), "--data.seed", str(cell.seed)]
    options += ["--validation.sources.0.path", str(excerpt(cell.corpus, "validation", folder))]
    options += ["--validation.sources.0.split", "train"]
    num_stages = FAMILIES[variant.family].num_stages
    multipliers = [2.0, 1.5, 1.0][: num_stages + 1] if variant.family.startswith("hnet") else [1.0]
    options += ["--optimizer.lr-multipliers", *map(str, multipliers)]
    if learns(config):
        options += ["--loss.target-ratios", *map(str, corpus.target_ratios[num_stages])]
        options += ["--loss.recipe", variant.recipe]
    if cell.num_tokens:
        tokenizer = config.with_name("tokenizer.json")
        length = bytes_per_token(tokenizer, corpus.split(folder, "train"))
        options += ["--data.tokenizer", str(tokenizer), "--data.max-length", str(round(LENGTH / length))]
        options += ["--data.tokens-per-batch", str(round(BYTES_PER_STEP / length))]
    hnet_lm("train", str(HERE / "run.toml"), *options)


def learns(config: Path) -> bool:
    """Whether the model learns where to cut."""
    return any(chunker.learns for chunker in HNetConfig.load(config).all_chunkers)


def bytes_per_token(tokenizer: Path, path: str) -> float:
    pairs, num_bytes, num_tokens = open_byte_pairs(str(tokenizer)), 0, 0
    for document in documents(DataConfig((SourceConfig(path),))):
        data = document.data[: TOKENIZED_BYTES - num_bytes]
        num_bytes, num_tokens = num_bytes + len(data), num_tokens + len(pairs.encode(data).ids)
        if num_bytes == TOKENIZED_BYTES:
            break
    return num_bytes / num_tokens


def measure(cell: Cell, folder: Path) -> dict[str, Any]:
    """Bits per byte of validation, and of a run of full length all that the report has."""
    corpus, run = CORPORA[cell.corpus], str(run_folder(cell))
    curve = read_curve(run)
    found: dict[str, Any] = {"validation": float(curve.bits_per_byte[-1])}
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
        split = {"out_of_domain": CORPORA[corpus].out_of_domain, "misspelt": "validation"}.get(what, what)
        texts = [
            document.data for document in documents(DataConfig((SourceConfig(CORPORA[corpus].split(folder, split)),)))
        ]
        size = max(EXCERPT_BYTES[what] // len(texts) // LENGTH, 1) * LENGTH
        chosen = texts[:: max(len(texts) * size // EXCERPT_BYTES[what], 1)]
        lines = [json.dumps({"text": text[:size].decode("utf-8", "ignore")}) + "\n" for text in chosen]
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, "".join(lines))
    return path


def time_left(cells: Sequence[Cell], done: Sequence[Cell]) -> str:
    """By the seconds per byte of the cells that are done."""
    results = [(result, cell) for cell in done if (result := measured(cell))]
    if not results:
        return "an unknown time"
    rate = mean(result["seconds"] / cell.num_bytes for result, cell in results)
    return f"about {rate * sum(cell.num_bytes for cell in cells) / 60:.0f} minutes"


def run(cells: Sequence[Cell], folder: Path) -> None:
    left = [cell for cell in cells if measured(cell) is None]
    while left:
        cell, began = left[0], time.monotonic()
        print(f"{len(left)} of {len(cells)} cells are left, {time_left(left, cells)}: {cell.corpus}, {cell.name}")
        train(cell, folder)
        if not (run_folder(cell) / "model.safetensors").exists():
            sys.exit(f"{run_folder(cell)} is not finished; the same command goes on")
        write(result_file(cell), json.dumps(measure(cell, folder) | {"seconds": time.monotonic() - began}) + "\n")
        left = left[1:]


def collect(corpus: str) -> None:
    """The tables and figures of all cells that are done."""
    cells = [*tuning_cells(corpus), *vocabulary_cells(corpus), *model_cells(corpus)]
    results = {cell: result for cell in cells if (result := measured(cell))}
    if results:
        facts = {cell.name: vars(cell) | {"result": result} for cell, result in results.items()}
        write_results(HERE / f"{corpus}.json", facts)
        write(HERE / f"{corpus}.md", report.page(facts))
        report.save_figure(facts, HERE / f"{corpus}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, help="folder of the corpora; without it nothing is trained")
    parser.add_argument("--corpus", nargs="+", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--part", default="1/1", help="I/N: the cells I, I + N, I + 2N ... of each list")
    options = parser.parse_args()
    first, step = map(int, options.part.split("/"))
    kinds = {"rates": tuning_cells, "vocabularies": vocabulary_cells, "models": model_cells}
    for corpus in options.corpus:
        for kind in PARTS:
            if options.corpora and kind in options.only:
                run(kinds[kind](corpus)[first - 1 :: step], options.corpora)
        collect(corpus)


if __name__ == "__main__":
    main()
