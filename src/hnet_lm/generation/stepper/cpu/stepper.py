"""The stepper of the CPU: one byte of each stream in one call from Python into compiled code.

Everything the loops read and write is memory that the stepper owns or keeps alive, checked when it is built; weights
are read where the model has them, except for those of convolutions, which are laid out anew. So a model whose weights
are replaced or trained on needs a new stepper.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hnet_lm.generation.boundaries import ByteBoundary
from hnet_lm.generation.stepper.cpu.build import build_program
from hnet_lm.generation.stepper.cpu.supports import unsupported
from hnet_lm.generation.stepper.stepper import StepOutput, Stepper
from hnet_lm.model import HNetLM
from hnet_lm.ops.dispatch import are_chosen


class CpuStepper(Stepper):
    """Steps in compiled loops, whose work threads share (`thread_pool`); spans by the model's forward."""

    def __init__(self, model: HNetLM, max_streams: int, **options: Any) -> None:
        super().__init__(model, max_streams, **options)
        built = build_program(self.model, self.state, max_streams)
        self._program, self._logits = built.program, built.logits
        self._rows: NDArray[np.int64] = built.rows.numpy()
        self._ids: NDArray[np.int64] = built.ids.numpy()
        self._probs: NDArray[Any] = built.boundary_prob.numpy()

    @classmethod
    def supports(cls, model: HNetLM) -> str | None:
        if are_chosen():
            return "a backend was chosen for an op, and the compiled step calls none"
        return unsupported(model)

    def _step(self, streams: Sequence[int], ids: Sequence[int]) -> StepOutput:
        num_rows = len(streams)
        slots = _integers("streams", streams, self.max_streams)
        new_ids = _integers("ids", ids, self.model.config.vocab_size)
        self._rows[:, 0] = 0  # an inner stage stays empty where no row of the stage outside comes to be cut
        self._rows[0, 0] = num_rows
        self._rows[0, 1 : num_rows + 1] = slots
        self._ids[:num_rows] = new_ids
        self._program.run()
        rows, probs = self._rows[:, : num_rows + 1].copy(), self._probs[:-1, :num_rows].copy()
        return StepOutput(self._logits[:num_rows].clone(), partial(_boundaries, rows, probs))


def _integers(name: str, numbers: Sequence[int], end: int) -> NDArray[np.int64]:
    """As an array. Raises TypeError for other numbers than integers, and ValueError for one out of range."""
    array = np.array(numbers, np.int64 if not len(numbers) else None)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a sequence of integers, got {numbers!r}")
    if array.size and not 0 <= array.min() <= array.max() < end:
        raise ValueError(f"{name} must be from 0 to {end - 1}, got {array.min()} to {array.max()}")
    return array.astype(np.int64, copy=False)


def _boundaries(rows: NDArray[np.int64], probs: NDArray[Any], index: int) -> list[ByteBoundary]:
    """What each stage decided about the position of one stream. `rows` are, per stage, their number and their slots."""
    if not len(probs):
        return []
    slot, found = rows[0, 1 + index], []
    for depth, (count, *slots) in enumerate(rows.tolist()):
        if slot not in slots[:count]:  # the stage outside did not cut here
            return [ByteBoundary(tuple(found), depth - 1)]
        if depth < len(probs):
            found.append(float(probs[depth, slots.index(slot)]))
    return [ByteBoundary(tuple(found), len(probs))]
