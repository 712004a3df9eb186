"""`hnet-lm evaluate robustness`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from hnet_lm.cli.evaluate.reading import Model, Reading, documents
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.tables import percent, print_table, rounded
from hnet_lm.cli.terminal import print_json
from hnet_lm.errors import UserError
from hnet_lm.evaluation import Evaluation, perturbed_bits_per_byte, read_questions, robustness


@dataclass(frozen=True)
class EvaluateRobustness(Evaluation):
    """Accuracy on multiple-choice questions, or bits per byte, under five perturbations of the text."""

    model: Model
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    questions: Path | None = None
    """JSONL of {"prompt": text, "choices": [texts], "answer": index from 0}."""
    text: str | None = None
    """Documents of UTF-8 text whose bits per byte to measure."""
    max_bytes: int | None = None
    """Stop after the document with which the text has so many bytes."""
    targets: tuple[Literal["prompt", "completion", "both"], ...] = ("prompt", "completion", "both")
    """What of a question to perturb; the averages run over these."""
    seed: int = 0
    """Of the perturbations."""
    json: bool = False
    """Print JSON instead of tables."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)

    def run(self) -> None:
        if self.questions is None and self.text is None:
            raise UserError("robustness needs --questions FILE, --text FILE, or both")
        if not self.targets:
            raise UserError("--targets names nothing to perturb; it takes prompt, completion, both")
        require_at_least(0, seed=self.seed)
        require_at_least(1, max_bytes=self.max_bytes)
        questions = [] if self.questions is None else read_questions(self.questions, self.reading.sources.report())
        texts = [] if self.text is None else list(documents(self.text, self.max_bytes, self.reading))
        scorer = self.reading.scorer(self.model)
        facts: dict[str, Any] = {}
        if self.questions is not None:
            facts["accuracy"] = robustness(scorer, questions, targets=self.targets, seed=self.seed).to_json()
        if self.text is not None:
            perturbed = perturbed_bits_per_byte(scorer, [d.decode("utf-8", "replace") for d in texts], seed=self.seed)
            facts["bits_per_byte"] = {name: vars(result) for name, result in perturbed.items()}
        if self.json:
            print_json(facts)
            return
        if "accuracy" in facts:
            print_table(("perturbation", *self.targets, "average", "score"), self._accuracy_rows(facts["accuracy"]))
        if "bits_per_byte" in facts:
            rows = [[name, *map(rounded, values.values())] for name, values in facts["bits_per_byte"].items()]
            print_table(("perturbation", "bits/byte", "bits/clean byte"), rows)

    def _accuracy_rows(self, facts: dict[str, Any]) -> Iterator[list[str]]:
        blank = [""] * len(self.targets)
        for name, found in facts["perturbations"].items():
            figures = [*(found[target] for target in self.targets), found["average"]]
            yield [name, *map(percent, figures), rounded(found["score"], 1)]
        yield ["all", *blank, percent(facts["average"]), rounded(facts["score"], 1)]
        yield ["clean", *blank, percent(facts["clean"]), ""]
        yield ["chance", *blank, percent(facts["chance"]), ""]
