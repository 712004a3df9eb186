"""Reading a long text with a state, in pieces: bytes a second from decade to decade, and what the state takes."""

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences
from speed.bench_model import english, make_model
from speed.settings import Settings
from speed.timing import seconds_of, timing_of

PIECE_BYTES = 4096
CALIBRATION_BYTES = 16384


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    spans = list(pairwise([0, *settings.read_lengths]))
    text = english(settings.read_lengths[-1], device)
    beginning = text[:CALIBRATION_BYTES]
    config = HNetConfig.load(settings.reading_model)
    model = make_model(config, beginning, Sequences.from_lengths([len(beginning)], device=device)).eval()
    Reader(model).read(beginning)  # to warm up
    seconds: list[list[float]] = [[] for _ in spans]
    state_bytes: list[int] = []
    for _ in range(settings.read_passes):
        reader = Reader(model)
        state_bytes.clear()
        for (start, end), of_span in zip(spans, seconds, strict=True):
            of_span.append(seconds_of(partial(reader.read, text[start:end]), device))
            state_bytes.append(reader.state.num_bytes)
    spans_read = zip(spans, seconds, state_bytes, strict=True)
    return {
        "model": settings.reading_model.name,
        "spans": [
            {"start": start, "end": end, "state_bytes": held, **timing_of(times)}
            for (start, end), times, held in spans_read
        ],
    }


class Reader:
    """One stream that has read nothing yet."""

    def __init__(self, model: HNetLM):
        self.model = model
        self.state = model.new_state(1)

    @torch.inference_mode()
    def read(self, ids: Tensor) -> None:
        """Go on with these ids, piece by piece."""
        for piece in ids.split(PIECE_BYTES):
            state = self.model(piece, None, self.state).state
            assert state is not None
            self.state = state
