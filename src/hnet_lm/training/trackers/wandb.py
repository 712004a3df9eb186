"""Weights & Biases, under the run folder's name."""

from pathlib import Path
from typing import Any

import wandb  # pyright: ignore[reportMissingImports]


class Run:
    """A run of the service."""

    def __init__(self, project: str, run_directory: Path, config: dict[str, Any]):
        self._run = wandb.init(project=project, name=run_directory.name, config=config, dir=run_directory)

    def log(self, record: dict[str, Any]) -> None:
        self._run.log(record)

    def close(self) -> None:
        self._run.finish()


def open_tracker(project: str, run_directory: Path, config: dict[str, Any]) -> Run:
    return Run(project, run_directory, config)
