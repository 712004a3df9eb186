"""The small trained models that come with the package: trained, measured, and put into it with their cards.

    python -m experiments.models.run english-small --corpora FOLDER     # trains on; a stopped run goes on
    python -m experiments.models.run english-small --corpora FOLDER --package

NAME.toml beside this file is the run. With `--package` the model of the run, finished or not, is measured on the test
split and on text of another domain, and written to src/hnet_lm/trained/NAME/ in bfloat16. Each command is
printed before it runs.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from experiments.common import answer, hnet_lm

from hnet_lm import checkpoint
from hnet_lm.cli.architecture import METRICS
from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.evaluation import ByteScorer, CarriedState, bits_per_byte
from hnet_lm.trained_models import FIGURES, FOLDER
from hnet_lm.training.metrics import read_metrics

HERE, RUNS = Path("experiments/models"), Path("runs/models")
BOUNDARY_BYTES = 500_000


@dataclass(frozen=True)
class Recipe:
    """A model's data, and what its card says of it."""

    files: str
    """With `*` for the split, below the folder of corpora."""
    out_of_domain: str
    """The split of other text."""
    data: str
    other_data: str
    licence: str
    sample: str
    """The bundled sample on whose held-out part the test suite measures the model again."""
    limits: str


RECIPES = {
    "english-small": Recipe(
        files="english/*.jsonl.xz",
        out_of_domain="test_ood",
        data="English books of Project Gutenberg",
        other_data="presidential addresses, from the State of the Union",
        licence="MIT",
        sample="sample:english",
        limits="It writes words and phrases in the manner of English books before 1926, and knows nothing: it is for\n"
        "trying things out, for tests, and as a start for fine-tuning.",
    ),
}
MEASURED_BYTES = 1_000_000
"""Of each text, in whole documents."""
SAMPLE_BYTES = 20_000


def train(name: str, corpora: Path) -> None:
    files = str(corpora / RECIPES[name].files)
    options = ["--data.sources.0.path", files.replace("*", "train")]
    options += ["--validation.sources.0.path", files.replace("*", "validation")]
    hnet_lm("train", str(HERE / f"{name}.toml"), *options, "--run.directory", str(RUNS / name))


def package(name: str, corpora: Path) -> None:
    recipe, run, folder = RECIPES[name], RUNS / name, FOLDER / name
    kept = {FIGURES: (folder / FIGURES).read_bytes()} if (folder / FIGURES).exists() else {}
    checkpoint.save(checkpoint.load(run, dtype=torch.bfloat16), folder, beside=kept)
    card = measured(name, corpora)
    for file, text in ((FIGURES, json.dumps(card, indent=1) + "\n"), ("README.md", card_text(name, card, recipe))):
        (folder / file).write_text(text, encoding="utf-8")
    print(card_text(name, card, recipe))


def measured(name: str, corpora: Path) -> dict[str, Any]:
    """The card. What is measured is the model as it is in the package."""
    recipe, saved = RECIPES[name], str(FOLDER / name)
    text = str(corpora / recipe.files)
    texts = {recipe.data: text.replace("*", "test"), recipe.other_data: text.replace("*", recipe.out_of_domain)}
    size = ["--max-bytes", str(MEASURED_BYTES)]
    found = {
        what: only(answer("evaluate", "bpb", saved, path, *size, "--compressors", "xz")) for what, path in texts.items()
    }
    cuts = answer("evaluate", "boundaries", saved, texts[recipe.data], "--max-bytes", str(BOUNDARY_BYTES))
    (stage, *_) = next(iter(cuts["domains"].values()))
    model = checkpoint.load(FOLDER / name)
    return {
        "data": recipe.data,
        "licence": recipe.licence,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_bytes": int(max(record.get("bytes_seen", 0) for record in read_metrics(RUNS / name / METRICS))),
        "measured": found,
        "sample": {"path": recipe.sample, "num_bytes": SAMPLE_BYTES, "bits_per_byte": of_sample(name, recipe)},
        "boundaries": {
            "starts_at_space": stage["starts_at_space"],
            "starts_at_word": stage["starts_at_word"],
            "enrichment": stage["enrichment"]["value"],
            "enrichment_by_chance": stage["enrichment"]["null_mean"],
        },
    }


def only(found: dict[str, Any]) -> dict[str, Any]:
    """Of the one text that was measured what the card has."""
    (stages,) = found["chunks"].values()
    (compressed,) = found["compressors"].values()
    return {
        "bits_per_byte": found["bits_per_byte"],
        "interval_95": found["interval_95"],
        "num_bytes": found["num_bytes"],
        "bytes_per_chunk": [stage["bytes_per_chunk"] for stage in stages],
        **compressed,
    }


def of_sample(name: str, recipe: Recipe) -> float:
    """Bits per byte of the first bytes of the sample's held-out part."""
    source = DataConfig((SourceConfig(recipe.sample, split="validation"),))
    text = next(document.data for document in documents(source))[:SAMPLE_BYTES]
    return bits_per_byte(ByteScorer(checkpoint.load(FOLDER / name), CarriedState()), {recipe.sample: [text]}).value


def card_text(name: str, card: dict[str, Any], recipe: Recipe) -> str:
    def row(what: str, found: dict[str, Any]) -> str:
        low, high = found["interval_95"]
        chunks = ", ".join(f"{length:.2f}" for length in found["bytes_per_chunk"])
        figures = (f"{found['bits_per_byte']:.3f}", f"{low:.3f}-{high:.3f}", f"{found['xz']:.3f}", chunks)
        return f"| {what} | {found['num_bytes']:,} | {' | '.join(figures)} |"

    cuts = card["boundaries"]
    rows = "\n".join(row(what, found) for what, found in card["measured"].items())
    at_space, at_word = (round(100 * cuts[key]) for key in ("starts_at_space", "starts_at_word"))
    return f"""# {name}

An H-Net of {card["num_parameters"] / 1e6:.2f} M parameters, which comes with hnet-lm. It was trained on
{card["trained_bytes"] / 1e6:.1f} MB: {recipe.data}.

    hnet-lm generate {name} "It was"
    hnet-lm chunks {name} "any text"
    hnet-lm serve {name}

| text, none of it trained on | bytes | bits per byte | 95 %, documents | xz -9e, as one file | bytes per chunk |
| --- | --: | --: | --: | --: | --: |
{rows}

{at_space} % of its chunks start at the space before a word, {at_word} % at a first letter. The byte behind a chunk
start takes {cuts["enrichment"]:.2f} times the bits of the mean byte ({cuts["enrichment_by_chance"]:.2f} by chance).

{recipe.limits}

Licence of the weights: {recipe.licence}. They are saved in bfloat16, and were trained by
`python -m experiments.models.run {name}` in a checkout of hnet-lm.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--corpora", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--package", action="store_true", help="measure the model and put it into the package")
    options = parser.parse_args()
    if options.package:
        package(options.name, options.corpora)
    else:
        train(options.name, options.corpora)


if __name__ == "__main__":
    main()
