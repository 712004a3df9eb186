"""Weights & Biases, under the run folder's name; a run that goes on does so in the same curve."""

from typing import Any

import wandb  # pyright: ignore[reportMissingImports]  an extra of its own

from hnet_lm.training.metrics import Tracked


class Run:
    """A run of the service."""

    def __init__(self, run: Tracked):
        self._run = wandb.init(
            project=run.project,
            name=run.directory.resolve().name,
            id=run.run_id,
            resume="allow",
            config=run.config,
            dir=run.directory,
        )

    def log(self, record: dict[str, Any]) -> None:
        self._run.log(record, step=record["step"])

    def close(self) -> None:
        self._run.finish()


def open_tracker(run: Tracked) -> Run:
    return Run(run)
