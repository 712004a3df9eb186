"""One request on its way through the engine: what it has read and written, and what its next byte may be."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hnet_lm.generation import utf8
from hnet_lm.generation.request import FinishReason, Request
from hnet_lm.generation.sampling import ByteLogprob, RandomStream
from hnet_lm.generation.text_stream import Piece, TextStream
from hnet_lm.generation.vocabulary import Vocabulary


class ActiveRequest:
    """BOS and the ids of the prompt and of all chosen so far; the model has read the first `num_read` of them.

    `stream` is the slot that the stepper has given it, None while it waits.
    """

    def __init__(self, handle: int, request: Request, vocabulary: Vocabulary) -> None:
        """Raises RequestError for a prompt that has no ids."""
        self.handle = handle
        self.request = request
        self.params = request.params
        self.random = RandomStream(request.params.seed)
        self.stream: int | None = None
        self.num_pages = 0  # that it had when it was put back
        self.num_read = 0
        self.num_new = 0
        self.finish_reason: FinishReason | None = None
        self._vocabulary = vocabulary
        prompt = vocabulary.encode(request.prompt)
        self._ids = [vocabulary.bos_id, *prompt]
        self._num_given = len(self._ids)
        self._prefill_end = len(self._ids)
        self._num_told = 0  # ids that it has reported about
        self._logprobs: deque[tuple[int, ByteLogprob]] = deque()  # and where the bytes of each end
        self._num_delivered = 0
        self._text = TextStream(request.params.stop_bytes)
        self._utf8_state = utf8.state_after(request.prompt)
        self._prefix = b"" if request.prompt else vocabulary.prefix
        self.seen = torch.zeros(vocabulary.size, dtype=torch.bool)
        self.seen[prompt] = True

    @property
    def required_stream(self) -> int:
        assert self.stream is not None
        return self.stream

    @property
    def num_ids(self) -> int:
        return len(self._ids)

    @property
    def num_new_ids(self) -> int:
        """How many ids have been chosen."""
        return len(self._ids) - self._num_given

    @property
    def num_unread(self) -> int:
        return len(self._ids) - self.num_read

    @property
    def is_prefilling(self) -> bool:
        """Whether it reads its prompt, or again what it had read before it was put back."""
        return self.num_read < self._prefill_end

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
        """The prompt's ids that follow each of the next `length` ids; none behind the prompt's last."""
        return self._ids[self.num_read + 1 : min(self.num_read + length + 1, self._num_given)]

    def num_told(self, length: int) -> int:
        """How many of the next `length` ids have been reported about, before the request was put back."""
        return min(length, max(0, self._num_told - self.num_read))

    def advance(self, length: int) -> None:
        """The model has read so many ids more."""
        self.num_read += length
        self._num_told = max(self._num_told, self.num_read)

    def start_again(self, num_pages: int) -> None:
        """Its state is lost, which took so many pages: everything is to be read again."""
        self.num_read = 0
        self.num_pages = num_pages
        self._prefill_end = len(self._ids)

    def accept(self, id: int, logprob: ByteLogprob | None) -> tuple[Piece, tuple[ByteLogprob, ...]]:
        """Take the chosen id, or the end of the text; what has become certain, with its log-probabilities.

        Of a token only the bytes count for which there is room.
        """
        if id == self._vocabulary.eos_id:
            piece, logprobs = self.finish("eos")
            return piece, (*logprobs, *self._asked_for(logprob))
        data = self._vocabulary.bytes_of(id)
        if self.num_new_ids == 0:
            data = data.removeprefix(self._prefix)
        data = data[: self.room]
        self._ids.append(id)
        self.num_new += len(data)
        self.seen[id] = True
        for byte in data:
            self._utf8_state = utf8.advance_any(self._utf8_state, byte)
        self._logprobs += [(self.num_new, wanted) for wanted in self._asked_for(logprob)]
        piece = self._text.push(data)
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
        """Of the ids all of whose bytes have been delivered."""
        self._num_delivered += len(piece.data)
        released = []
        while self._logprobs and self._logprobs[0][0] <= self._num_delivered:
            released.append(self._logprobs.popleft()[1])
        return tuple(released)


def allowed_ids(requests: Sequence[ActiveRequest], vocabulary: Vocabulary) -> Bool[Tensor, "b v"]:
    """What may come next in each request: what says bytes, and the end of the text unless it is ignored."""
    allowed = (vocabulary.lengths > 0).repeat(len(requests), 1)
    states = torch.tensor([r.utf8_state for r in requests], dtype=torch.int64)
    wants_valid = torch.tensor([r.params.valid_utf8 for r in requests], dtype=torch.bool)
    if wants_valid.any():
        allowed &= vocabulary.valid(states, _column([r.room for r in requests])) | ~wants_valid[:, None]
    may_end = torch.tensor([not r.params.ignore_eos for r in requests], dtype=torch.bool)
    allowed[:, vocabulary.eos_id] = may_end & ((states == utf8.BOUNDARY) | ~wants_valid)
    return allowed


def _column(values: list[int]) -> Int[Tensor, " b"]:
    return torch.tensor(values, dtype=torch.int64)
