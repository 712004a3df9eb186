"""Continuous batching over a stepper.

In each step every running request reads its newest byte (or token) and gets another, all in one call, and prompts that
are still being read share a limited number of bytes more in others, so that a long one stalls neither the running
streams nor a shorter prompt (`prompt_shares`). Requests join and leave between steps.

Keys and values are pages of a pool (`EngineLimits.pool_bytes`). A request is admitted by what it needs now and by what
is free; the others wait in the order in which they came. How much a request will need is not known, so running requests
may outgrow the pool. Then the youngest one pauses, and when an older one needs its pages, it is put back to the head of
the queue and later reads everything again: its bytes, its randomness and its events go on as if nothing had happened.
A request that outgrows the pool although it is alone ends there, with the reason "length".

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
from hnet_lm.generation.boundaries import ByteBoundary
from hnet_lm.generation.limits import EngineLimits
from hnet_lm.generation.params import RequestError
from hnet_lm.generation.prompt_shares import byte_cost, prompt_shares, sees_everything
from hnet_lm.generation.request import Event, Request
from hnet_lm.generation.rounded_weights import Weights
from hnet_lm.generation.sampling import ByteLogprob, log_probabilities, sample
from hnet_lm.generation.stepper import StepOutput, Stepper, build_stepper
from hnet_lm.generation.text_stream import Piece
from hnet_lm.generation.vocabulary import Tokenizer, vocabulary_of
from hnet_lm.model import HNetLM


class Engine:
    """Serves many requests with one stepper. State: the active requests, oldest first, and a queue of the others.

    `max_active` is how many may be active, `num_prompt_ids_read` how many ids of prompts it has read up to now.
    """

    def __init__(
        self,
        model: HNetLM | Stepper,
        limits: EngineLimits | None = None,
        weights: Weights | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """Of a model the first stepper that supports it is built; `weights` rounds its linear maps. A stepper that is
        given belongs to this engine alone. A model of tokens goes with its `tokenizer`.

        Raises ConfigError for a tokenizer that is not the model's, and for a pool that is too small for one stream.
        """
        limits = limits or EngineLimits()
        config = model.model.config if isinstance(model, Stepper) else model.config
        self.vocabulary = vocabulary_of(config, tokenizer)
        if isinstance(model, Stepper):
            if weights is not None:
                raise ConfigError("weights are a property of the stepper: build it with them")
            self.stepper = model
        else:
            self.stepper = build_stepper(
                model,
                limits.max_active,
                weights=weights,
                pool_bytes=limits.pool_bytes_of(model),
                keys_values=limits.keys_values,
            )
        self.limits = limits
        self._cost_grows = sees_everything(config)
        self.max_active = min(limits.max_active, self.stepper.max_streams)
        self.num_prompt_ids_read = 0
        self._handles = count()
        self._queue: deque[ActiveRequest] = deque()
        self._active: list[ActiveRequest] = []

    @property
    def has_work(self) -> bool:
        return bool(self._active or self._queue)

    @property
    def num_active(self) -> int:
        return len(self._active)

    @property
    def num_queued(self) -> int:
        return len(self._queue)

    def num_before(self, length: int) -> int:
        """How many ids of other prompts, about, would be read before the end of a new one of so many bytes."""
        return sum(min(r.num_unread, length + 1) for r in (*self._active, *self._queue) if r.is_prefilling)

    @property
    def state_bytes(self) -> int:
        """Bytes that the state of the active requests occupies now."""
        return self.stepper.state_bytes

    def submit(self, request: Request) -> int:
        """Queue a request; the handle that its events carry. Raises RequestError for one that could never be served."""
        active = ActiveRequest(next(self._handles), request, self.vocabulary)
        pool, least = self.stepper.pool, self.stepper.least_pages(active.num_ids)
        if least > pool.num_pages:
            raise RequestError(
                f"a prompt of {len(request.prompt)} bytes needs {least * pool.page_bytes:,} bytes of keys and values "
                f"or more, but the whole pool has {pool.num_pages * pool.page_bytes:,}; shorten the prompt, or raise "
                "pool_bytes"
            )
        self._queue.append(active)
        return active.handle

    def cancel(self, handle: int) -> bool:
        """Drop a request and free its slot at once; no event follows. False if it is not (or no longer) here."""
        for request in (*self._active, *self._queue):
            if request.handle == handle:
                self._remove(request)
                return True
        return False

    def cancel_all(self) -> None:
        """Drop every request; also after a step that raised."""
        for request in (*self._active, *self._queue):
            self._remove(request)

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Let waiting requests join, run the model, give every running request a byte; what came of it."""
        self._admit()
        plan = self._plan()
        if self._active and not plan:  # it is alone: otherwise the oldest one reads at least one byte
            return [self._outgrown(self._active[0])]
        events = [event for part in _parts(plan) for event in self._forward(part)]
        for request, _ in plan:
            if request.finish_reason is not None:
                self._remove(request)
        return events

    def _admit(self) -> None:
        """In the order they came: a request that does not fit yet keeps those behind it waiting too."""
        if not self._queue:
            return
        needed = sum(map(self._pages_needed, self._active))
        while self._queue and len(self._active) < self.max_active:
            needed += self._pages_needed(self._queue[0])
            if self._active and needed > self.stepper.pool.num_pages:
                break
            request = self._queue.popleft()
            request.stream = self.stepper.admit()
            self._active.append(request)

    def _pages_needed(self, request: ActiveRequest) -> int:
        """What it is known to need: for its ids so far at least, and what it had before it was put back."""
        held = request.num_pages if request.stream is None else self.stepper.num_pages(request.stream)
        return max(held, self.stepper.least_pages(request.num_ids))

    def _plan(self) -> list[tuple[ActiveRequest, int]]:
        """How many ids each active request reads in this step. Those that get none are left out."""
        while self._active:
            running = [request for request in self._active if not request.is_prefilling]
            prefilling = [request for request in self._active if request.is_prefilling]
            costs = [byte_cost(request.num_read) if self._cost_grows else 1 for request in prefilling]
            shares = prompt_shares([request.num_unread for request in prefilling], costs, self.limits.prefill_bytes)
            requests, wanted = [*running, *prefilling], [*([1] * len(running)), *shares]
            granted = self.stepper.room([request.required_stream for request in requests], wanted)
            # Most prompts may have to wait for others: only the oldest of them must not stop.
            stuck = [r for r, n in zip(requests, granted, strict=True) if n == 0 and r not in prefilling[1:]]
            if len(self._active) == 1 or all(request is self._active[-1] for request in stuck):
                return [(r, n) for r, n in zip(requests, granted, strict=True) if n]
            self._put_back(self._active[-1])
        return []

    def _put_back(self, request: ActiveRequest) -> None:
        """To the head of the queue: it is older than all that wait there."""
        num_pages = self.stepper.num_pages(request.required_stream)
        self._remove(request)
        request.start_again(num_pages)
        self._queue.appendleft(request)

    def _outgrown(self, request: ActiveRequest) -> Event:
        """The end of a request that needs more pages than there are."""
        piece, logprobs = request.finish("length")
        self._remove(request)
        return Event(request.handle, piece.data, piece.text, logprobs, finish_reason=request.finish_reason)

    def _remove(self, request: ActiveRequest) -> None:
        if request.stream is None:
            self._queue.remove(request)
        else:
            self._active.remove(request)
            self.stepper.drop(request.stream)
            request.stream = None

    def _forward(self, plan: Sequence[tuple[ActiveRequest, int]]) -> list[Event]:
        """Run the model on these requests, each by its length; what came of it."""
        streams = [request.required_stream for request, _ in plan]
        ids = [request.unread(length) for request, length in plan]
        if all(length == 1 for _, length in plan):
            out = self.stepper.step(streams, [i for (i,) in ids])
        else:
            out = self.stepper.extend(streams, ids)
        return self._read(out, plan)

    def _read(self, out: StepOutput, plan: Sequence[tuple[ActiveRequest, int]]) -> list[Event]:
        """Take in what the model said, and choose the next bytes of the requests that have been read to their end."""
        reports = []
        complete: dict[int, ActiveRequest] = {}  # by the last row of each
        end = 0
        for index, (request, length) in enumerate(plan):
            start, end = end, end + length
            reports.append(_report(out, request, index, start, length))
            self.num_prompt_ids_read += length if request.is_prefilling else 0
            request.advance(length)
            if request.num_unread == 0:
                complete[end - 1] = request
        pieces = self._choose(out, complete)
        events = []
        for (request, _), (prompt_logprobs, boundaries) in zip(plan, reports, strict=True):
            piece, logprobs = pieces.get(request.handle, (Piece(b"", ""), ()))
            event = Event(
                request.handle, piece.data, piece.text, logprobs, prompt_logprobs, boundaries, request.finish_reason
            )
            if not event.is_empty:
                events.append(event)
        return events

    def _choose(
        self, out: StepOutput, complete: Mapping[int, ActiveRequest]
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
            allowed_ids(requests, self.vocabulary),
            torch.stack([request.seen for request in requests]),
        )
        num_tops = [request.params.logprobs for request in requests if request.params.logprobs is not None]
        logprobs = log_probabilities(logits, chosen, max(num_tops)) if num_tops else [None] * len(requests)
        for request, id, logprob in zip(requests, chosen.tolist(), logprobs, strict=True):
            pieces[request.handle] = request.accept(id, logprob)
        return pieces


def _parts(plan: Sequence[tuple[ActiveRequest, int]]) -> list[list[tuple[ActiveRequest, int]]]:
    """What is read in one call: single ids; spans with nothing before them; and each span that goes on, by itself.

    Side by side, all would be computed as if they were as long as the longest, behind as many others as it.
    """
    singles = [(request, length) for request, length in plan if length == 1]
    spans = [(request, length) for request, length in plan if length > 1]
    fresh = [(request, length) for request, length in spans if request.num_read == 0]
    return [part for part in (singles, fresh) if part] + [[item] for item in spans if item[0].num_read > 0]


def _report(
    out: StepOutput, request: ActiveRequest, index: int, start: int, length: int
) -> tuple[tuple[ByteLogprob, ...], tuple[ByteBoundary, ...]]:
    """What a request, the call's `index`-th, wants to know of the ids it has just read: rows `start` and behind.

    What it was told before it was put back is not told again.
    """
    prompt_logprobs: list[ByteLogprob] = []
    boundaries: list[ByteBoundary] = []
    told = request.num_told(length)
    if request.request.prompt_logprobs:
        targets = torch.tensor(request.targets(length)[told:], dtype=torch.int64)
        logits = out.logits[start + told : start + told + len(targets)]
        prompt_logprobs = log_probabilities(logits, targets, request.params.logprobs or 0)
    if request.request.boundaries and told < length:
        is_bos = request.num_read == 0  # which is no byte
        boundaries = out.boundaries(index)[max(told, is_bos) :]
    return tuple(prompt_logprobs), tuple(boundaries)
