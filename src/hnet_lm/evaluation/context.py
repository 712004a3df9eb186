"""How much of the preceding text the model sees when a byte is scored."""

from dataclasses import dataclass
from typing import NamedTuple

from hnet_lm.checks import require_whole


class Span(NamedTuple):
    """Input positions `start .. end - 1` of a text, read from a fresh state; those from `counted` on count."""

    start: int
    counted: int
    end: int


@dataclass(frozen=True)
class CarriedState:
    """All of it: the text is read in pieces of at most `piece_bytes` and the state is carried from piece to piece.

    The size of a piece bounds memory and changes no result.
    """

    piece_bytes: int = 4096

    def __post_init__(self) -> None:
        require_whole("context.piece_bytes", self.piece_bytes, 1)

    def spans(self, num_positions: int) -> list[Span]:
        return [Span(0, 0, num_positions)]


@dataclass(frozen=True)
class SlidingWindow:
    """A window that moves on by `stride_bytes`, each time read from a fresh state.

    A byte sees the positions from the start of the window: at most `window_bytes`, and after the first window more than
    `window_bytes - stride_bytes`. Only the first window begins with BOS. A stride of the whole window cuts the text
    into disjoint pieces.
    """

    window_bytes: int
    stride_bytes: int

    def __post_init__(self) -> None:
        require_whole("context.stride_bytes", self.stride_bytes, 1)
        require_whole("context.window_bytes", self.window_bytes, self.stride_bytes)

    @property
    def piece_bytes(self) -> int:
        return self.window_bytes

    def spans(self, num_positions: int) -> list[Span]:
        spans = [Span(0, 0, min(self.window_bytes, num_positions))]
        while (counted := spans[-1].end) < num_positions:
            end = min(counted + self.stride_bytes, num_positions)
            spans.append(Span(end - self.window_bytes, counted, end))
        return spans


Context = CarriedState | SlidingWindow
