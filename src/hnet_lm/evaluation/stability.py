"""How stable a model's cuts are under changes that should not affect them.

Shift: the text without its first bytes, as if the corpus had been divided into documents differently. Changed byte: one
byte of the text replaced by another byte from it; the cuts at that byte and at the next one do not count, those at the
following bytes do. Both give the F1 of cuts before and after, which is 1 if nothing moves. As everywhere, the first
byte of a text is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from hnet_lm.inspect import chunks
from hnet_lm.model import HNetLM

SHIFTS = (1, 7, 64)
HORIZON = 256
"""Bytes after a changed one in which cuts are compared."""
PIECE_BYTES = 2048
NUM_CHANGES = 4


@dataclass
class Stability:
    """Cuts of one stage before and after, and those in both."""

    num_before: int = 0
    num_after: int = 0
    num_both: int = 0

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        self.num_before += len(before)
        self.num_after += len(after)
        self.num_both += len(np.intersect1d(before, after))

    @property
    def f1(self) -> float:
        total = self.num_before + self.num_after
        return 2 * self.num_both / total if total else float("nan")


@dataclass
class StageStability:
    """Stability under a shift of the text, and under one changed byte."""

    shift: Stability = field(default_factory=Stability)
    changed_byte: Stability = field(default_factory=Stability)

    def to_json(self) -> dict[str, float | None]:
        figures = {"shift_f1": self.shift.f1, "changed_byte_f1": self.changed_byte.f1}
        return {name: None if value != value else value for name, value in figures.items()}


def stability(model: HNetLM, texts: Iterable[bytes], *, seed: int = 0) -> list[StageStability]:
    """The stability of every stage, on the first bytes of each text; texts that are too short are left out."""
    found = [StageStability() for _ in range(model.config.num_stages)]
    random = np.random.default_rng(seed)
    for text in texts:
        data = text[:PIECE_BYTES]
        if len(data) <= 2 * max(SHIFTS):
            continue
        before = _cuts(model, data)
        for shift in SHIFTS:
            after = _cuts(model, data[shift:])
            for stage, old, new in zip(found, before, after, strict=True):
                stage.shift.add(old[old > shift], new[new > 0] + shift)
        for place in random.integers(1, len(data) - 1, size=NUM_CHANGES).tolist():
            others = np.frombuffer(data, dtype=np.uint8)
            others = others[others != data[place]]
            if not len(others):
                continue
            changed = data[:place] + bytes([int(random.choice(others))]) + data[place + 1 :]
            after = _cuts(model, changed[: place + HORIZON + 2])
            for stage, old, new in zip(found, before, after, strict=True):
                stage.changed_byte.add(_behind(old, place), _behind(new, place))
    return found


def _cuts(model: HNetLM, data: bytes) -> list[np.ndarray]:
    return [stage.starts for stage in chunks(model, data).stages]


def _behind(cuts: np.ndarray, place: int) -> np.ndarray:
    return cuts[(cuts > place + 1) & (cuts <= place + 1 + HORIZON)]
