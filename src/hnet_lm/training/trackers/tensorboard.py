"""TensorBoard event files in the run's folder."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Every number of a record under its own name."""

    def __init__(self, directory: Path):
        self._writer = SummaryWriter(str(directory / "tensorboard"))

    def log(self, record: dict[str, Any]) -> None:
        for key, value in record.items():
            if isinstance(value, int | float) and key != "step":
                self._writer.add_scalar(key, value, record["step"])
            elif isinstance(value, str):
                self._writer.add_text(key, value, record["step"])

    def close(self) -> None:
        self._writer.close()


def open_tracker(project: str, run_directory: Path, config: dict[str, Any]) -> TensorBoard:
    return TensorBoard(run_directory)
