"""Every family for a few hundred steps in matched configs, and what came of it: the paper's comparison as a smoke test.

    python -m experiments.smoke.run [english] [dna]

Runs `hnet-lm match`, `train` and `compare`, and prints each command before it. What is done already is not done again:
a stopped run goes on from its checkpoint. Writes experiments/smoke/configs/ and, for each corpus, CORPUS.md, .png
and .json; the runs are in runs/smoke/.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.common import answer, hnet_lm

from hnet_lm.baselines import FAMILIES

HERE = Path("experiments/smoke")
RUNS = Path("runs/smoke")
SEQUENCE_LENGTH = 512
NUM_TOKENS = 1024
BYTE_MODEL = "byte-model"


@dataclass(frozen=True)
class Corpus:
    """A bundled sample, the positions a chunk that are aimed at with one stage and with two, and who is compared."""

    name: str
    ratio: int
    two_stage_ratios: tuple[float, float]
    families: tuple[str, ...]
    is_text: bool


# DNA has no spaces, so the families that cut at them would see one chunk a sequence.
CORPORA = {
    "english": Corpus("english", 5, (2.5, 2.5), tuple(FAMILIES), is_text=True),
    "dna": Corpus("dna", 3, (2.0, 2.0), tuple(n for n, family in FAMILIES.items() if family.cut != "space"), False),
}


def run_directory(corpus: Corpus, name: str) -> Path:
    return RUNS / corpus.name / name


def match(corpus: Corpus) -> None:
    folder = HERE / "configs" / corpus.name
    wanted = [name for name in corpus.families if not (folder / f"{name}.json").exists()]
    if not wanted:
        return
    sizes = ["--bytes-per-chunk", str(corpus.ratio), "--stride", str(corpus.ratio), "--num-tokens", str(NUM_TOKENS)]
    sizes += ["--sequence-length", str(SEQUENCE_LENGTH)]
    where = ["--to", "demo", "--text", f"sample:{corpus.name}", "--output", str(folder)]
    byte_model = ["--byte-model", str(run_directory(corpus, BYTE_MODEL))]
    hnet_lm("match", *where, *sizes, *byte_model, "--family", *wanted)


def train(corpus: Corpus, name: str) -> None:
    config = HERE / "byte_model.json" if name == BYTE_MODEL else HERE / "configs" / corpus.name / f"{name}.json"
    options = ["--run.directory", str(run_directory(corpus, name)), "--model.config", str(config)]
    options += ["--optimizer.lr-multipliers", *map(str, lr_multipliers(name))]
    options += ["--loss.target-ratios", *map(str, target_ratios(corpus, name))]
    if name == "hnet-entropy":
        options += ["--model.byte-model", str(run_directory(corpus, BYTE_MODEL))]
    if name == "bpe":
        options += ["--data.tokenizer", str(HERE / "configs" / corpus.name / "tokenizer.json")]
    hnet_lm("train", str(HERE / f"{corpus.name}.toml"), *options)


def lr_multipliers(name: str) -> Sequence[float]:
    """Of H-Nets those of the demonstration; isotropic models and SpaceByte have none (paper)."""
    num_stages = 0 if name == BYTE_MODEL else FAMILIES[name].num_stages
    return [1.0] * (num_stages + 1) if not name.startswith("hnet") else [2.0, 1.5, 1.0][: num_stages + 1]


def target_ratios(corpus: Corpus, name: str) -> Sequence[float]:
    match name:
        case "hnet-1stage":
            return [float(corpus.ratio)]
        case "hnet-2stage":
            return corpus.two_stage_ratios
    return []


def compare(corpus: Corpus) -> None:
    """In pieces as long as those of training, so that nobody is asked about lengths it has not seen."""
    runs = [str(run_directory(corpus, name)) for name in corpus.families]
    options = ["--text", f"sample:{corpus.name}", "--document-bytes", str(SEQUENCE_LENGTH)]
    options += ["--perturb"] if corpus.is_text else []
    files = ["--markdown", str(HERE / f"{corpus.name}.md"), "--png", str(HERE / f"{corpus.name}.png")]
    facts = answer("compare", *runs, *options, *files)
    (HERE / f"{corpus.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    print((HERE / f"{corpus.name}.md").read_text())


def smoke(corpus: Corpus) -> None:
    train(corpus, BYTE_MODEL)
    match(corpus)
    for name in corpus.families:
        train(corpus, name)
    compare(corpus)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CORPORA:
        smoke(CORPORA[chosen])
