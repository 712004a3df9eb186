"""`hnet-lm evaluate curves`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.cli.tables import print_table, rounded
from hnet_lm.errors import UserError
from hnet_lm.evaluation.curves import VALIDATION, data_efficiency, read_curve
from hnet_lm.extras import import_leaf


@dataclass(frozen=True)
class EvaluateCurves:
    """How many times less data runs need than the first of them, from their metrics, before decay and after it."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN RUN ...")]
    """Folders of runs; the first is what the others are compared with."""
    key: str = VALIDATION
    """Which values of the metrics to compare."""
    png: Path | None = None
    """Write a figure of the curves."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        if len(self.runs) < 2:
            raise UserError("curves needs two runs or more, the one to compare with first")
        baseline, *others = (read_curve(run, self.key) for run in self.runs)
        before = [data_efficiency(curve, baseline, before_decay=True) for curve in others]
        after = [data_efficiency(curve, baseline, before_decay=False) for curve in others]
        if self.png is not None:
            figure = import_leaf("hnet_lm.evaluation.curves_figure", "plot", "--png")
            figure.save_figure([baseline, *others], [found for found in before if found], self.png)
        if self.json:
            rows = zip(others, before, after, strict=True)
            facts = {c.name: {"before_decay": b and vars(b), "after_decay": a and vars(a)} for c, b, a in rows}
            print(json.dumps({"baseline": baseline.name, "runs": facts}))
            return
        factors = [[rounded(found and found.factor, 2) for found in pair] for pair in zip(before, after, strict=True)]
        rows = [
            [curve.name, rounded(curve.end(before_decay=False)), *pair]
            for curve, pair in zip([baseline, *others], [["1.00", "1.00"], *factors], strict=True)
        ]
        print_table(("run", "bits/byte", "times less data, before decay", "after decay"), rows)
