"""Continuous batching over the model's one forward.

In each step every running request reads its newest byte and gets another, all in one packed call, and prompts still
being read share a limited number of bytes more in a second, first come first served, so that a long one never stalls
the running streams. Requests join and leave between steps; the state is one tree with a row a request.

What is beside a request in the batch does not change its bytes. (The model's arithmetic may differ in the last bits in
a larger batch; that shows only where two bytes are equally likely to that precision, or where a boundary probability is
0.5 to that precision.)

An engine belongs to one thread, which calls `submit`, `cancel` and `step`.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count

import torch

from hnet_lm.errors import ConfigError
from hnet_lm.generation.active_request import ActiveRequest, allowed_ids
from hnet_lm.generation.boundaries import ByteBoundary, byte_boundaries
from hnet_lm.generation.limits import EngineLimits
from hnet_lm.generation.params import RequestError
from hnet_lm.generation.request import Event, Request
from hnet_lm.generation.sampling import ByteLogprob, log_probabilities, sample
from hnet_lm.generation.state_budget import StateBudget
from hnet_lm.generation.text_stream import Piece
from hnet_lm.model import HNetLM, HNetOutput
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


class Engine:
    """Serves many requests with one model. State: that of the active requests, and a queue of those that wait."""

    def __init__(self, model: HNetLM, limits: EngineLimits | None = None) -> None:
        if model.config.reads_tokens:
            raise ConfigError("the model reads tokens of a tokenizer, not bytes, so it cannot continue bytes")
        self.model = model
        self.limits = limits or EngineLimits()
        self.budget = StateBudget(model, self.limits.max_state_bytes)
        self._handles = count()
        self._queue: deque[ActiveRequest] = deque()
        self._active: list[ActiveRequest] = []
        self._state: State | None = None

    @property
    def has_work(self) -> bool:
        return bool(self._active or self._queue)

    @property
    def num_active(self) -> int:
        return len(self._active)

    @property
    def num_queued(self) -> int:
        return len(self._queue)

    @property
    def state_bytes(self) -> int:
        """Bytes that the state of the active requests occupies now."""
        return 0 if self._state is None else self._state.num_bytes

    def submit(self, request: Request) -> int:
        """Queue a request; the handle that its events carry. Raises RequestError for one that could never be served."""
        config = self.model.config
        for name, special in (("start", config.bos_id), ("end", config.eos_id)):
            if special < 256 and special in request.prompt:
                raise RequestError(
                    f"prompt: byte {request.prompt.index(special)} is {special:#x}, which this model reads as the "
                    f"{name} of a text; binary data needs a model with a vocabulary of 258"
                )
        active = ActiveRequest(next(self._handles), request, config)
        if not self.budget.fits(1, active.max_positions):
            raise RequestError(
                f"a prompt of {len(request.prompt)} bytes with {request.params.max_new_bytes} new ones may need "
                f"{self.budget.state_bytes(1, active.max_positions):,} bytes of state, more than the budget of "
                f"{self.budget.num_bytes:,}; shorten the prompt, ask for fewer new bytes, or raise the budget"
            )
        self._queue.append(active)
        return active.handle

    def cancel(self, handle: int) -> bool:
        """Drop a request and free its slot at once; no event follows. False if it is not (or no longer) here."""
        waiting = [request for request in self._queue if request.handle != handle]
        if len(waiting) < len(self._queue):
            self._queue = deque(waiting)
            return True
        kept = [row for row, request in enumerate(self._active) if request.handle != handle]
        was_active = len(kept) < len(self._active)
        self._keep(kept)
        return was_active

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Let waiting requests join, run the model, give every running request a byte; what came of it."""
        self._admit()
        if not self._active:
            return []
        lengths = self._plan()
        # Apart, since rows of one id would be computed as if they were as long as the spans beside them.
        singles = [row for row, length in enumerate(lengths) if length == 1]
        spans = [row for row, length in enumerate(lengths) if length > 1]
        events = [event for rows in (singles, spans) if rows for event in self._forward(rows, lengths)]
        self._keep([row for row, request in enumerate(self._active) if request.finish_reason is None])
        return events

    def _forward(self, rows: Sequence[int], lengths: Sequence[int]) -> list[Event]:
        """Run the model on these active requests, each by its length; what came of it."""
        requests = [self._active[row] for row in rows]
        lengths = [lengths[row] for row in rows]
        ids = [i for request, length in zip(requests, lengths, strict=True) for i in request.unread(length)]
        device = self.model.device
        slots = None if len(rows) == len(self._active) else torch.tensor(rows, device=device)
        seqs = Sequences.from_lengths(lengths, slots, device)
        out = self.model(torch.tensor(ids, device=device), seqs, self._state)
        self._state = out.state
        return self._read(out, requests, lengths)

    def _admit(self) -> None:
        """In the order they came: a request that does not fit yet keeps those behind it waiting too."""
        joined = 0
        longest = max((request.max_positions for request in self._active), default=0)
        while self._queue and len(self._active) < self.limits.max_active:
            longest = max(longest, self._queue[0].max_positions)
            if not self.budget.fits(len(self._active) + 1, longest):
                break
            self._active.append(self._queue.popleft())
            joined += 1
        if joined:
            fresh = self.model.new_state(num_sequences=joined)
            self._state = fresh if self._state is None else type(fresh).join([self._state, fresh])

    def _plan(self) -> list[int]:
        """How many ids each active request reads in this step."""
        left = self.limits.prefill_bytes
        lengths = []
        for request in self._active:
            length = min(request.num_unread, left) if request.is_prefilling else request.num_unread
            left -= length if request.is_prefilling else 0
            lengths.append(length)
        return lengths

    def _read(self, out: HNetOutput, requests: Sequence[ActiveRequest], lengths: Sequence[int]) -> list[Event]:
        """Take in what the model said, and choose the next bytes of the requests that have been read to their end."""
        reports = []
        complete: dict[int, ActiveRequest] = {}  # by the last row of each
        end = 0
        for index, (request, length) in enumerate(zip(requests, lengths, strict=True)):
            start, end = end, end + length
            reports.append(self._report(out, request, index, start, length))
            request.num_read += length
            if request.num_unread == 0:
                complete[end - 1] = request
        pieces = self._choose(out, complete)
        events = []
        for request, (prompt_logprobs, boundaries) in zip(requests, reports, strict=True):
            piece, logprobs = pieces.get(request.handle, (Piece(b"", ""), ()))
            event = Event(
                request.handle, piece.data, piece.text, logprobs, prompt_logprobs, boundaries, request.finish_reason
            )
            if not event.is_empty:
                events.append(event)
        return events

    def _report(
        self, out: HNetOutput, active: ActiveRequest, index: int, start: int, length: int
    ) -> tuple[tuple[ByteLogprob, ...], tuple[ByteBoundary, ...]]:
        """What a request, the call's `index`-th, wants to know of the ids it has just read: rows `start` and behind."""
        prompt_logprobs: list[ByteLogprob] = []
        boundaries: list[ByteBoundary] = []
        if length and active.request.prompt_logprobs:
            targets = torch.tensor(active.targets(length), dtype=torch.int64)
            logits = out.logits[start : start + len(targets)]
            prompt_logprobs = log_probabilities(logits, targets, active.params.logprobs or 0)
        if length and active.request.boundaries:
            boundaries = byte_boundaries(out.routings, index)
            if active.num_read == 0:
                del boundaries[:1]  # BOS is no byte
        return tuple(prompt_logprobs), tuple(boundaries)

    def _choose(
        self, out: HNetOutput, complete: Mapping[int, ActiveRequest]
    ) -> dict[int, tuple[Piece, tuple[ByteLogprob, ...]]]:
        """The next byte of each request, named by its row of logits; by handle what is now certain of its output."""
        pieces = {}
        logits = out.logits[list(complete)].to("cpu", torch.float64)
        is_finite = logits.isfinite().all(-1).tolist()
        requests, rows = [], []
        for row, request in enumerate(complete.values()):
            if is_finite[row] and request.room > 0:
                requests.append(request)
                rows.append(row)
            else:
                pieces[request.handle] = request.finish("length" if is_finite[row] else "error")
        if not requests:
            return pieces
        logits = logits[rows]
        chosen = sample(
            logits,
            [request.params for request in requests],
            [request.random.next() for request in requests],
            allowed_ids(requests, self.model.config),
            torch.stack([request.seen for request in requests]),
        )
        num_tops = [request.params.logprobs for request in requests if request.params.logprobs is not None]
        logprobs = log_probabilities(logits, chosen, max(num_tops)) if num_tops else [None] * len(requests)
        for request, byte, logprob in zip(requests, chosen.tolist(), logprobs, strict=True):
            pieces[request.handle] = request.accept(byte, logprob)
        return pieces

    def _keep(self, rows: list[int]) -> None:
        """Only these active requests stay."""
        if len(rows) == len(self._active):
            return
        self._active = [self._active[row] for row in rows]
        assert self._state is not None
        self._state = self._state.select(rows) if rows else None
