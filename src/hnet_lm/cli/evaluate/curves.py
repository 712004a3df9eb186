"""`hnet-lm evaluate curves`."""

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from hnet_lm.cli.options import names_of
from hnet_lm.cli.sources import say
from hnet_lm.cli.tables import print_table, rounded
from hnet_lm.cli.terminal import print_json
from hnet_lm.errors import UserError
from hnet_lm.evaluation import Evaluation
from hnet_lm.evaluation.curves import METRICS, VALIDATION, Curve, Efficiency, data_efficiency, read_curve
from hnet_lm.extras import import_leaf
from hnet_lm.outputs import Output, tried


@dataclass(frozen=True)
class EvaluateCurves(Evaluation):
    """How many times less data runs need than the first of them, from their metrics, before decay and after it."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN RUN ...")]
    """Folders of runs; the first is what the others are compared with."""
    key: str = VALIDATION
    """Which values of the metrics to compare."""
    png: str | None = None
    """Write a figure of the curves; .pdf and .svg are written as such."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        if len(self.runs) < 2:
            raise UserError("curves needs two runs or more, the one to compare with first")
        figures = import_leaf("hnet_lm.figures", "plot", "--png") if self.png else None
        (png,) = tried((self.png, figures.KINDS if figures else ()))
        if self.json and png is not None and png.is_standard_output:
            raise UserError("--json prints to standard output; write --png to a file")
        names = names_of([run.removesuffix(f"/{METRICS}") for run in self.runs])
        curves = [dataclasses.replace(read_curve(run, self.key), name=name) for run, name in names.items()]
        baseline, *others = curves
        before = [data_efficiency(curve, baseline, before_decay=True) for curve in others]
        after = [data_efficiency(curve, baseline, before_decay=False) for curve in others]
        if self.json:
            rows = zip(others, before, after, strict=True)
            facts = {c.name: {"before_decay": b and vars(b), "after_decay": a and vars(a)} for c, b, a in rows}
            print_json({"baseline": baseline.name, "end": baseline.end(before_decay=False), "runs": facts})
        elif png is None or not png.is_standard_output:
            _print(curves, before, after)
        if png is not None:
            _write_figure(curves, [found for found in before if found], png)


def _print(curves: Sequence[Curve], before: Sequence[Efficiency | None], after: Sequence[Efficiency | None]) -> None:
    factors = [[rounded(found and found.factor, 2) for found in pair] for pair in zip(before, after, strict=True)]
    rows = [
        [curve.name, rounded(curve.end(before_decay=False)), *pair]
        for curve, pair in zip(curves, [["1.00", "1.00"], *factors], strict=True)
    ]
    print_table(("run", "bits/byte", "times less data, before decay", "after decay"), rows)


def _write_figure(curves: Sequence[Curve], efficiencies: Sequence[Efficiency], png: Output) -> None:
    picture = io.BytesIO()
    figure = import_leaf("hnet_lm.evaluation.curves_figure", "plot", "--png")
    if missing := figure.save_figure(curves, efficiencies, picture, png.kind):
        note = import_leaf("hnet_lm.figures", "plot", "--png").boxes_note(missing)
        say(f"{png.given}: {note}")
    png.write(picture.getvalue())
