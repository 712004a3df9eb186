"""trackio, under the run's id, by which alone it finds a run again; a run that goes on does so in the same curve."""

from typing import Any

import trackio  # pyright: ignore[reportMissingImports]  an extra of its own

from hnet_lm.training.metrics import Tracked


class Run:
    """A run of the service."""

    def __init__(self, run: Tracked):
        self._run = trackio.init(project=run.project, name=run.run_id, resume="allow", config=run.config)

    def log(self, record: dict[str, Any]) -> None:
        self._run.log(record, step=record["step"])

    def close(self) -> None:
        self._run.finish()


def open_tracker(run: Tracked) -> Run:
    return Run(run)
