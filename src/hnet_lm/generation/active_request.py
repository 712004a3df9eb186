"""One request on its way through the engine: what it has read and written, and what its next byte may be."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.generation import utf8
from hnet_lm.generation.request import FinishReason, Request
from hnet_lm.generation.sampling import ByteLogprob, RandomStream
from hnet_lm.generation.text_stream import Piece, TextStream


class ActiveRequest:
    """`ids` are BOS, the prompt and every byte chosen so far; the model has read the first `num_read` of them."""

    def __init__(self, handle: int, request: Request, config: HNetConfig) -> None:
        self.handle = handle
        self.request = request
        self.params = request.params
        self.random = RandomStream(request.params.seed)
        self.num_read = 0
        self.num_new = 0
        self.finish_reason: FinishReason | None = None
        self._eos_id = config.eos_id
        self._ids = [config.bos_id, *request.prompt]
        self._num_given = len(self._ids)
        self._logprobs: list[ByteLogprob] = []  # of bytes that the text stream still holds
        self._text = TextStream(request.params.stop_bytes)
        self._utf8_state = utf8.state_after(request.prompt)
        self.seen = torch.zeros(config.vocab_size, dtype=torch.bool)
        self.seen[list(request.prompt)] = True

    @property
    def max_positions(self) -> int:
        """How many positions the model will have read at most."""
        return self._num_given + self.params.max_new_bytes

    @property
    def num_unread(self) -> int:
        return len(self._ids) - self.num_read

    @property
    def is_prefilling(self) -> bool:
        return self.num_read < self._num_given

    @property
    def utf8_state(self) -> int:
        return self._utf8_state

    @property
    def room(self) -> int:
        """How many bytes may still come."""
        return self.params.max_new_bytes - self.num_new

    def unread(self, length: int) -> list[int]:
        """The next `length` ids that the model is to read."""
        return self._ids[self.num_read : self.num_read + length]

    def targets(self, length: int) -> list[int]:
        """The prompt bytes that follow each of the next `length` ids; none behind the prompt's last byte."""
        return self._ids[self.num_read + 1 : min(self.num_read + length + 1, self._num_given)]

    def accept(self, byte: int, logprob: ByteLogprob | None) -> tuple[Piece, tuple[ByteLogprob, ...]]:
        """Take the chosen byte, or the end of the text; what has become certain, with its log-probabilities."""
        if byte == self._eos_id:
            piece, logprobs = self.finish("eos")
            return piece, (*logprobs, *self._asked_for(logprob))
        self._ids.append(byte)
        self.num_new += 1
        self.seen[byte] = True
        self._utf8_state = utf8.advance_any(self._utf8_state, byte)
        self._logprobs += self._asked_for(logprob)
        piece = self._text.push(bytes([byte]))
        logprobs = self._released(piece)
        if self._text.stopped or self.room == 0:
            rest, rest_logprobs = self.finish("stop" if self._text.stopped else "length")
            piece = Piece(piece.data + rest.data, piece.text + rest.text)
            logprobs += rest_logprobs
        return piece, logprobs

    def finish(self, reason: FinishReason) -> tuple[Piece, tuple[ByteLogprob, ...]]:
        """All that is still held back."""
        self.finish_reason = reason
        piece = self._text.finish()
        return piece, self._released(piece)

    def _asked_for(self, logprob: ByteLogprob | None) -> tuple[ByteLogprob, ...]:
        """With as many likeliest bytes as this request wants: the batch may have been computed with more."""
        if logprob is None or self.params.logprobs is None:
            return ()
        return (replace(logprob, top=logprob.top[: self.params.logprobs]),)

    def _released(self, piece: Piece) -> tuple[ByteLogprob, ...]:
        released = tuple(self._logprobs[: len(piece.data)])
        del self._logprobs[: len(piece.data)]
        return released


def allowed_ids(requests: Sequence[ActiveRequest], config: HNetConfig) -> Bool[Tensor, "b v"]:
    """What may come next in each request: bytes, and the end of the text unless it is ignored."""
    allowed = torch.zeros(len(requests), config.vocab_size, dtype=torch.bool)
    allowed[:, :256] = True
    states = torch.tensor([r.utf8_state for r in requests], dtype=torch.int64)
    wants_valid = torch.tensor([r.params.valid_utf8 for r in requests], dtype=torch.bool)
    valid: Bool[Tensor, "b 256"] = utf8.allowed_bytes(states, _column([r.room for r in requests]))
    allowed[:, :256] &= valid | ~wants_valid[:, None]
    allowed[:, config.bos_id] = False
    may_end = torch.tensor([not r.params.ignore_eos for r in requests], dtype=torch.bool)
    allowed[:, config.eos_id] = may_end & ((states == utf8.BOUNDARY) | ~wants_valid)
    return allowed


def _column(values: list[int]) -> Int[Tensor, " b"]:
    return torch.tensor(values, dtype=torch.int64)
