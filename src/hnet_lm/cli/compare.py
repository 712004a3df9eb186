"""`hnet-lm compare RUN...`: one table of several trained models, in the terminal, Markdown, PNG or JSON."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from hnet_lm.cli.evaluate.reading import Reading, documents
from hnet_lm.cli.tables import print_table
from hnet_lm.errors import UserError
from hnet_lm.evaluation.comparison import Compared, compared, table, to_markdown
from hnet_lm.evaluation.multiple_choice import read_questions
from hnet_lm.extras import import_leaf
from hnet_lm.training.metrics import read_metrics

DEFAULT_LENGTH = 8192


@dataclass(frozen=True)
class Command:
    """Parameters, FLOPs, chunks, bits per byte with a 95 % interval, robustness and speed of trained models."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN ...")]
    """Folders of runs or saved models, or hf:owner/name."""
    text: str = "sample:english"
    """What all of them are measured on; of a sample the held-out part."""
    max_bytes: int | None = None
    """Stop after the document with which the text has so many bytes."""
    document_bytes: int | None = None
    """Cut documents into pieces of so many bytes, each read by itself: for an interval where documents are few."""
    sequence_length: int | None = None
    """Bytes of the sequence of which FLOPs are counted; by default the longest that the run was trained on, or 8192."""
    perturb: bool = False
    """Measure bits per byte under the five perturbations of the text as well."""
    questions: Path | None = None
    """Multiple-choice questions (as for `evaluate robustness`): adds the robustness score."""
    markdown: Path | None = None
    """Write the table in Markdown."""
    png: Path | None = None
    """Write a figure."""
    json: bool = False
    """Print JSON instead of a table."""
    reading: Annotated[Reading, tyro.conf.arg(prefix_name=False)] = field(default_factory=Reading)

    def run(self) -> None:
        if not self.runs:
            raise UserError("compare needs the folders of one run or more")
        figure = import_leaf("hnet_lm.evaluation.comparison_figure", "plot", "--png") if self.png else None
        texts = list(self._texts())
        questions = [] if self.questions is None else read_questions(self.questions)
        rows: list[Compared] = []
        for run, name in zip(self.runs, _names(self.runs), strict=True):
            rows.append(
                compared(
                    name,
                    self.reading.scorer(run, unit_starts=True),
                    texts,
                    self.sequence_length or _trained_length(Path(run)) or DEFAULT_LENGTH,
                    records=read_metrics(Path(run) / "metrics.jsonl"),
                    perturb=self.perturb,
                    questions=questions,
                )
            )
        if self.markdown is not None:
            self.markdown.write_text(to_markdown(rows), encoding="utf-8")
        if figure is not None:
            figure.save_figure(rows, self.png)
        if self.json:
            print(json.dumps({found.name: found.to_json() for found in rows}))
        else:
            headings, *body = table(rows)
            print_table(headings, body)

    def _texts(self) -> Iterator[bytes]:
        for data in documents(self.text, self.max_bytes, self.reading):
            size = self.document_bytes or max(len(data), 1)
            yield from (data[start : start + size] for start in range(0, len(data), size))


def _names(runs: tuple[str, ...]) -> list[str]:
    """The last part of each path, or all of it where that is not enough to tell them apart."""
    short = [Path(run).name for run in runs]
    return short if len(set(short)) == len(short) else list(runs)


def _trained_length(run: Path) -> int | None:
    """The longest sequence of the run's training, from its newest checkpoint."""
    for path in sorted(run.glob("checkpoints/step_*/trainer.json"), reverse=True):
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["config"]
        return config["data"]["max_length"]
    return None
