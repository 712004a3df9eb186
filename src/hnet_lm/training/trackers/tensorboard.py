"""TensorBoard event files in the run's folder."""

from typing import Any

from torch.utils.tensorboard import SummaryWriter

from hnet_lm.training.metrics import Tracked


class TensorBoard:
    """Every number of a record under its own name. What a killed process wrote beyond the checkpoint is hidden."""

    def __init__(self, run: Tracked):
        self._writer = SummaryWriter(str(run.directory / "tensorboard"), purge_step=run.next_step)

    def log(self, record: dict[str, Any]) -> None:
        for key, value in record.items():
            if isinstance(value, int | float) and key != "step":
                self._writer.add_scalar(key, value, record["step"])
            elif isinstance(value, str):
                self._writer.add_text(key, value, record["step"])

    def close(self) -> None:
        self._writer.close()


def open_tracker(run: Tracked) -> TensorBoard:
    return TensorBoard(run)
