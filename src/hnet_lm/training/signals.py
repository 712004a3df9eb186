"""SIGTERM and Ctrl-C ask a run to stop after the update it is in; a second Ctrl-C stops at once."""

import signal
from types import FrameType
from typing import Self


class StopSignals:
    """Within the block, `received` names the signal that came, if one did."""

    def __init__(self) -> None:
        self.received: str | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
