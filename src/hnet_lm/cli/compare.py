"""`hnet-lm compare RUN...`: one table of several trained models, in the terminal, Markdown, PNG or JSON."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.cli.architecture import METRICS, PUBLISHED_LENGTH, read_architecture
from hnet_lm.cli.evaluate.reading import Reading, documents
from hnet_lm.cli.options import names_of, require_at_least
from hnet_lm.cli.sources import say
from hnet_lm.cli.tables import print_table
from hnet_lm.cli.terminal import print_json
from hnet_lm.errors import UserError
from hnet_lm.evaluation.comparison import Compared, compared, table, to_markdown
from hnet_lm.evaluation.multiple_choice import read_questions
from hnet_lm.extras import import_leaf
from hnet_lm.outputs import Output, tried, write_all
from hnet_lm.training.metrics import read_metrics


@dataclass(frozen=True)
class Command:
    """Parameters, FLOPs, chunks, bits per byte with a 95 % interval, robustness and speed of trained models."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN ...")]
    """Folders of runs or saved models, or hf:owner/name."""
    text: str = "sample:english"
    """Text to measure all models on; of a sample, the held-out part."""
    max_bytes: int | None = None
    """Stop after the document that reaches this many bytes."""
    document_bytes: int | None = None
    """Cut documents into pieces of this many bytes, each read alone: gives an interval if documents are few."""
    sequence_length: int | None = None
    """Sequence length in bytes for counting FLOPs; by default the longest of the training, or 8192."""
    perturb: bool = False
    """Measure bits per byte under the five perturbations of the text as well."""
    questions: Path | None = None
    """Multiple-choice questions (as for `evaluate robustness`): adds the robustness score."""
    markdown: str | None = None
    """Write the table in Markdown; - is standard output."""
    png: str | None = None
    """Write a figure; .pdf and .svg are written as such."""
    json: bool = False
    """Print JSON instead of a table."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)

    def run(self) -> None:
        if not self.runs:
            raise UserError("compare needs the folders of one run or more")
        sizes = {"max_bytes": self.max_bytes, "document_bytes": self.document_bytes}
        require_at_least(1, **sizes, sequence_length=self.sequence_length)
        figures = import_leaf("hnet_lm.figures", "plot", "--png") if self.png else None
        markdown, png = tried((self.markdown, ()), (self.png, figures.KINDS if figures else ()))
        is_table_taken = any(output is not None and output.is_standard_output for output in (markdown, png))
        if self.json and is_table_taken:
            raise UserError("--json prints to standard output; write --markdown and --png to files")
        questions = [] if self.questions is None else read_questions(self.questions, self.reading.sources.report())
        runs = names_of(self.runs)
        lengths = {run: self.sequence_length or read_architecture(run).max_length or PUBLISHED_LENGTH for run in runs}
        texts = list(self._texts())
        rows: list[Compared] = []
        try:
            for run, name in runs.items():
                scorer = self.reading.scorer(run, unit_starts=True)
                records = read_metrics(Path(run) / METRICS)
                found = compared(
                    name, scorer, texts, lengths[run], records=records, perturb=self.perturb, questions=questions
                )
                rows.append(found)
        finally:  # a run that cannot be measured does not lose what was measured before
            if rows and not is_table_taken:
                self._print(rows)
        write_all(self._files(rows, markdown, png))

    def _print(self, rows: list[Compared]) -> None:
        if self.json:
            print_json({found.name: found.to_json() for found in rows})
        else:
            headings, *body = table(rows)
            print_table(headings, body)

    def _files(self, rows: list[Compared], markdown: Output | None, png: Output | None) -> dict[Output, str | bytes]:
        contents: dict[Output, str | bytes] = {}
        if markdown is not None:
            contents[markdown] = to_markdown(rows)
        if png is not None:
            picture = io.BytesIO()
            figure = import_leaf("hnet_lm.evaluation.comparison_figure", "plot", "--png")
            if missing := figure.save_figure(rows, picture, png.kind):
                note = import_leaf("hnet_lm.figures", "plot", "--png").boxes_note(missing)
                say(f"{png.given}: {note}")
            contents[png] = picture.getvalue()
        return contents

    def _texts(self) -> Iterator[bytes]:
        for data in documents(self.text, self.max_bytes, self.reading):
            size = self.document_bytes or max(len(data), 1)
            yield from (data[start : start + size] for start in range(0, len(data), size))
