"""Scores of a byte model: passages of any length, many in one packed call, with the state carried between calls.

A passage is read as BOS, its prompt, its data; at each position the model predicts the byte that follows, and after the
last byte EOS. Each call takes the next piece of every active passage and admits new ones while there is room, so that a
corpus of short and long documents fills the calls without padding.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hnet_lm.checks import require_whole
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError, DataError
from hnet_lm.evaluation.context import CarriedState, Context, Span
from hnet_lm.evaluation.scorer import Passage, PassageScore
from hnet_lm.model import HNetLM, Routing
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


class ByteScorer:
    """A `Scorer` over a model's bytes. Autocast around the call to `score` applies to the model as usual."""

    def __init__(
        self,
        model: HNetLM,
        context: Context | None = None,
        *,
        call_bytes: int = 16_384,
        max_active: int = 64,
        unit_starts: bool = False,
        byte_logprobs: bool = False,
        on_positions: Callable[[int], None] | None = None,
    ) -> None:
        """At most `call_bytes` positions per call and `max_active` sequences at once.

        `unit_starts` adds chunks to the results, `byte_logprobs` the log-probability of each byte; `on_positions` is
        called after each call with its number of positions.
        """
        require_whole("call_bytes", call_bytes, 1)
        require_whole("max_active", max_active, 1)
        self.model = model
        self.context = CarriedState() if context is None else context
        self.call_bytes = call_bytes
        self.max_active = max_active
        self.unit_starts = unit_starts
        self.byte_logprobs = byte_logprobs
        self.on_positions = on_positions

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        """The score of each passage, in order. Raises DataError for a byte that the model reads as BOS or EOS."""
        works: deque[_Work] = deque()  # passages that have begun and are not yet returned, in order
        waiting = self._spans(passages, works)
        active: list[_SpanWork] = []
        state: State | None = None
        while lengths := self._plan(active, waiting):
            state = self._call(active, lengths, state)
            if self.on_positions is not None:
                self.on_positions(sum(lengths))
            kept = [i for i, span in enumerate(active) if span.num_left]
            if state is not None and len(kept) < len(active):
                state = state.select(kept) if kept else None
            active = [active[i] for i in kept]
            while works and works[0].is_done:
                yield works.popleft().score(self.model.config.num_stages if self.unit_starts else None)

    def encode(self, passage: Passage, number: int) -> tuple[np.ndarray, int]:
        """BOS, the prompt, the data and EOS as ids, and how many belong to the prompt."""
        if self.model.config.reads_tokens:
            raise ConfigError("the model reads tokens of a tokenizer, not bytes; it is scored by a TokenScorer")
        return _tokens(passage, number, self.model.config), len(passage.prompt)

    def _spans(self, passages: Iterable[Passage], works: "deque[_Work]") -> "Iterator[_SpanWork]":
        for number, passage in enumerate(passages):
            tokens, num_prompt = self.encode(passage, number)
            spans = [s for s in self.context.spans(len(tokens) - 1) if s.end > num_prompt]
            num_bytes = len(tokens) - num_prompt - 2
            kept = np.zeros(num_bytes) if self.byte_logprobs else None
            work = _Work(num_prompt, num_bytes, len(spans), byte_logprobs=kept)
            works.append(work)
            yield from (_SpanWork(work, tokens, span) for span in spans)

    def _plan(self, active: "list[_SpanWork]", waiting: "Iterator[_SpanWork]") -> list[int]:
        """How many positions of each span the next call reads; adds spans to `active` while there is room."""
        room = self.call_bytes
        lengths: list[int] = []
        while len(lengths) < self.max_active and room:
            if len(lengths) == len(active):
                active.extend(islice(waiting, 1))
            if len(lengths) == len(active):
                break
            lengths.append(min(active[len(lengths)].num_left, self.context.piece_bytes, room))
            room -= lengths[-1]
        return lengths + [0] * (len(active) - len(lengths))

    @torch.no_grad()
    def _call(self, active: "list[_SpanWork]", lengths: list[int], state: State | None) -> State | None:
        """Read the next `lengths` positions of the spans; returns the state after them, with one row per span."""
        device = self.model.device
        pieces = [span.tokens[span.position : span.position + n + 1] for span, n in zip(active, lengths, strict=True)]
        inputs, targets = (
            torch.from_numpy(np.concatenate([piece[side] for piece in pieces]).astype(np.int64)).to(device)
            for side in (slice(None, -1), slice(1, None))
        )
        seqs = Sequences.from_lengths(lengths, device=device)
        state = self._state(active, lengths, state)
        out = self.model(inputs, seqs, state)
        logprobs, is_likeliest = _of_targets(out.logits, targets)
        starts = _boundary_rows(out.routings) if self.unit_starts else []
        end = 0
        for span, length in zip(active, lengths, strict=True):
            begin, end = end, end + length
            rows = [r[np.searchsorted(r, begin) : np.searchsorted(r, end)] - begin for r in starts]
            span.take(logprobs[begin:end], is_likeliest[begin:end], rows)
        return out.state

    def _state(self, active: "list[_SpanWork]", lengths: list[int], state: State | None) -> State | None:
        """The state of all active spans; None if all of them begin and end in this call, so that none is needed."""
        num_new = sum(span.is_new for span in active)  # they come after the others
        is_whole = all(span.num_left == n for span, n in zip(active, lengths, strict=True))
        if num_new == len(active):
            return None if is_whole else self.model.new_state(num_new)
        assert state is not None
        return type(state).join([state, self.model.new_state(num_new)]) if num_new else state


@dataclass
class _Work:
    """The results for one passage so far."""

    num_prompt: int
    num_bytes: int
    num_spans_left: int
    logprob: float = 0.0
    eos_logprob: float = 0.0
    is_greedy: bool = True
    starts: dict[int, list[np.ndarray]] = field(default_factory=dict)  # by stage
    byte_logprobs: np.ndarray | None = None

    @property
    def is_done(self) -> bool:
        return self.num_spans_left == 0

    def add(self, position: int, logprobs: np.ndarray, is_likeliest: np.ndarray, rows: Sequence[np.ndarray]) -> None:
        """Counted predictions from input position `position` of the passage on, and the rows at which chunks start."""
        first_byte = position - self.num_prompt  # offset in the data of the first byte predicted
        for stage, offsets in enumerate(rows):
            self.starts.setdefault(stage, []).append(offsets + (first_byte - 1))
        num_bytes = min(len(logprobs), self.num_bytes - first_byte)
        self.logprob += float(logprobs[:num_bytes].sum())
        if self.byte_logprobs is not None:
            self.byte_logprobs[first_byte : first_byte + num_bytes] = logprobs[:num_bytes]
        self.eos_logprob += float(logprobs[num_bytes:].sum())
        self.is_greedy = self.is_greedy and bool(is_likeliest[:num_bytes].all())

    def score(self, num_stages: int | None) -> PassageScore:
        units = None if num_stages is None else tuple(self._unit_starts(stage) for stage in range(num_stages))
        figures = (self.logprob, self.num_bytes, self.eos_logprob, self.is_greedy)
        return PassageScore(*figures, units, self.byte_logprobs)

    def _unit_starts(self, stage: int) -> np.ndarray:
        first = np.zeros(min(self.num_bytes, 1), dtype=np.int64)
        offsets = np.concatenate([first, *self.starts.get(stage, [])])
        return np.unique(offsets[offsets >= 0])


class _SpanWork:
    """A span that is being read."""

    def __init__(self, work: _Work, tokens: np.ndarray, span: Span) -> None:
        self.work = work
        self.tokens = tokens
        self.span = span
        self.position = span.start  # the next input

    @property
    def is_new(self) -> bool:
        return self.position == self.span.start

    @property
    def num_left(self) -> int:
        return self.span.end - self.position

    def take(self, logprobs: np.ndarray, is_likeliest: np.ndarray, rows: Sequence[np.ndarray]) -> None:
        """Pass on the model's predictions at the positions that count."""
        first = max(self.span.counted, self.work.num_prompt)
        skipped = min(max(first - self.position, 0), len(logprobs))
        counted_rows = [r[r >= skipped] - skipped for r in rows]
        if skipped < len(logprobs):
            self.work.add(self.position + skipped, logprobs[skipped:], is_likeliest[skipped:], counted_rows)
        self.position += len(logprobs)
        if not self.num_left:
            self.work.num_spans_left -= 1


def _tokens(passage: Passage, number: int, config: HNetConfig) -> np.ndarray:
    """BOS, the prompt, the data, EOS."""
    text = np.frombuffer(passage.prompt + passage.data, dtype=np.uint8)
    for name, special in (("BOS", config.bos_id), ("EOS", config.eos_id)):
        if special < 256 and (text == special).any():
            raise DataError(
                f"passage {number}: byte {int((text == special).argmax())} is {special:#x}, which this model reads as "
                f"{name}; data that is not UTF-8 needs a model with a vocabulary of 258"
            )
    return np.concatenate([[config.bos_id], text, [config.eos_id]]).astype(np.int16)


def _of_targets(logits: Float[Tensor, "t v"], targets: Int[Tensor, " t"]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each target, and whether it is the likeliest; on the CPU, to be summed in float64."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    chosen = wide.gather(1, targets[:, None]).squeeze(1)
    logprobs = chosen - wide.logsumexp(1)
    is_likeliest: Bool[Tensor, " t"] = wide.argmax(1) == targets
    return logprobs.cpu().double().numpy(), is_likeliest.cpu().numpy()


def _boundary_rows(routings: tuple[Routing, ...]) -> list[np.ndarray]:
    """For each stage the rows of the packed input that start a chunk in it."""
    found = []
    rows = None
    for routing in routings:
        inner = routing.is_boundary.nonzero().squeeze(1).cpu().numpy()
        rows = inner if rows is None else rows[inner]
        found.append(rows)
    return found
