"""`hnet-lm evaluate harness`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.cli.evaluate.reading import Model
from hnet_lm.cli.loading import PrecisionOption, load_model
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.tables import print_table, rounded
from hnet_lm.cli.terminal import print_json
from hnet_lm.errors import UserError
from hnet_lm.evaluation import Evaluation
from hnet_lm.extras import import_leaf


@dataclass(frozen=True)
class EvaluateHarness(Evaluation):
    """Tasks of the LM Evaluation Harness; multiple choice gets the accuracy normalised by bytes (acc_bytes) as well."""

    model: Model
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    tasks: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="TASK ...")]
    """Names of tasks, as hellaswag, or patterns, as 'mmlu_*'; the harness fetches their data from the hub."""
    task_directory: Path | None = None
    """A folder of tasks in the harness's YAML, to be taken instead of its own."""
    num_fewshot: int | None = None
    """Examples in front of each question; the task's own number by default."""
    limit: int | None = None
    """Ask no more than this many questions of each task."""
    batch_size: int = 16
    """Requests at once."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    precision: PrecisionOption = None
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        require_at_least(1, limit=self.limit, batch_size=self.batch_size)
        require_at_least(0, num_fewshot=self.num_fewshot)
        if self.task_directory is not None and not self.task_directory.is_dir():
            raise UserError(f"--task-directory {self.task_directory}: no such folder")
        harness = import_leaf("hnet_lm.evaluation.harness", "eval", "evaluate harness")
        directory = None if self.task_directory is None else str(self.task_directory)
        manager = harness.ByteTaskManager(include_path=directory, include_defaults=directory is None)
        tasks = harness.find_tasks(self.tasks, manager)
        model = load_model(self.model, self.device, self.precision)
        if model.config.reads_tokens:
            raise UserError(f"{self.model}: the model reads tokens; the harness's tasks are asked of models of bytes")
        lm = harness.HarnessLM.of_model(model, batch_size=self.batch_size)
        found = harness.run_tasks(lm, tasks, manager, num_fewshot=self.num_fewshot, limit=self.limit)
        if self.json:
            print_json(found, default=str)
            return
        rows = [
            [task, metric.partition(",")[0], rounded(value), rounded(metrics.get(metric.replace(",", "_stderr,")))]
            for task, metrics in found.items()
            for metric, value in metrics.items()
            if isinstance(value, float) and "_stderr," not in metric
        ]
        print_table(("task", "metric", "value", "standard error"), rows)
