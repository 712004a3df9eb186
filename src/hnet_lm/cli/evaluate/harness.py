"""`hnet-lm evaluate harness`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.checkpoint import load
from hnet_lm.cli.evaluate.reading import Model
from hnet_lm.cli.tables import print_table, rounded
from hnet_lm.extras import import_leaf


@dataclass(frozen=True)
class EvaluateHarness:
    """Tasks of the LM Evaluation Harness; multiple choice gets the accuracy normalised by bytes (acc_bytes) as well."""

    model: Model
    """A saved directory, or hf:owner/name."""
    tasks: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="TASK ...")]
    """Names of tasks, as hellaswag; the harness fetches their data from the hub."""
    task_directory: Path | None = None
    """A folder of tasks in the harness's YAML, to be taken instead of its own."""
    num_fewshot: int | None = None
    """Examples in front of each question; the task's own number by default."""
    limit: int | None = None
    """Ask only so many questions of each task."""
    batch_size: int = 16
    """Requests at once."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        harness = import_leaf("hnet_lm.evaluation.harness", "eval", "evaluate harness")
        lm = harness.HarnessLM.of_model(load(self.model, device=self.device), batch_size=self.batch_size)
        directory = None if self.task_directory is None else str(self.task_directory)
        manager = harness.ByteTaskManager(include_path=directory, include_defaults=directory is None)
        found = harness.run_tasks(lm, self.tasks, manager, num_fewshot=self.num_fewshot, limit=self.limit)
        if self.json:
            print(json.dumps(found, default=str))
            return
        rows = [
            [task, metric.partition(",")[0], rounded(value), rounded(metrics.get(metric.replace(",", "_stderr,")))]
            for task, metrics in found.items()
            for metric, value in metrics.items()
            if isinstance(value, float) and "_stderr," not in metric
        ]
        print_table(("task", "metric", "value", "standard error"), rows)
