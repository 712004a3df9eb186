"""The stepper whose step has fixed shapes and never waits for the device (`fixed_step`); its operations run one by one.

A step takes ids, or chooses them: `write` chooses and reads many ids of every stream, and only then is something copied
to the host. How many entries of keys and values are read follows from what the host knows without asking: how many ids
every stream was asked to read, and, a little later, how many became chunks (`_Seen`).
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hnet_lm.generation.boundaries import ByteBoundary
from hnet_lm.generation.stepper.fixed_step import (
    CHOSEN,
    MOST_CHOSEN,
    NOBODY,
    NOT_FINITE,
    FixedStep,
    entries_by_state,
)
from hnet_lm.generation.stepper.known_modules import MODULES, why_unknown
from hnet_lm.generation.stepper.pages import PagedStage, sent
from hnet_lm.generation.stepper.stepper import StepOutput, Stepper
from hnet_lm.model import HNetLM
from hnet_lm.model.dynamic_chunking import ByteSmoothing, ConfidenceUpsampler, NoSmoothing, UnweighedUpsampler
from hnet_lm.model.dynamic_chunking.chunkers.cosine import CosineChunker
from hnet_lm.model.dynamic_chunking.chunkers.linear import LinearChunker
from hnet_lm.model.dynamic_chunking.chunkers.policy import PolicyChunker
from hnet_lm.model.layers import NoConnection

KNOWN: tuple[type[nn.Module], ...] = (
    *MODULES,
    *(ByteSmoothing, NoSmoothing, ConfidenceUpsampler, UnweighedUpsampler, NoConnection),
    *(CosineChunker, LinearChunker, PolicyChunker),
)
STEPS_PER_LOOK = 16
"""Steps after which a copy of what the device has seen is sent for."""


class StaticStepper(Stepper):
    """Steps of fixed shapes, on any device; spans by the model's forward."""

    asks_device: ClassVar[bool] = False

    def __init__(self, model: HNetLM, max_streams: int, **options: Any) -> None:
        super().__init__(model, max_streams, **options)
        self._fixed_step = FixedStep(self.model, self.state, max_streams)
        self._seen = _Seen(self.memory.stages)
        self._has_logits: set[int] = set()

    @classmethod
    def supports(cls, model: HNetLM) -> str | None:
        for name, module in model.named_modules():
            if (reason := why_unknown(module, KNOWN)) is not None:
                return f"{name or 'the model'} {reason}"
        return None

    def admit(self) -> int:
        self._seen.forget()  # it may be of the stream that had the slot before
        return super().admit()

    def drop(self, stream: int) -> None:
        super().drop(stream)
        self._has_logits.discard(stream)

    @torch.inference_mode()
    def extend(self, streams: Sequence[int], ids: Sequence[Sequence[int]]) -> StepOutput:
        out = super().extend(streams, ids)
        ends = accumulate(len(some) for some in ids)
        last = [(stream, end - 1) for stream, end, some in zip(streams, ends, ids, strict=True) if some]
        if last:
            slots, rows = (sent(each, self.model.device) for each in zip(*last, strict=True))
            self._fixed_step.logits.index_copy_(0, slots, out.logits[rows].to(self._fixed_step.logits.dtype))
            self._has_logits.update(stream for stream, _ in last)
        return out

    @torch.inference_mode()
    def write(
        self,
        streams: Sequence[int],
        num_ids: int,
        *,
        temperature: Sequence[float] | None = None,
        uniforms: Float[Tensor, "num_ids n"] | None = None,
        allowed: Bool[Tensor, " v"] | None = None,
    ) -> list[list[int]]:
        """Choose and read so many ids of each stream, from what it has read last; the ids.

        `temperature` is one per stream, 0 (or None) for the likeliest id; the others are drawn by `uniforms` in [0, 1),
        one per id and stream. `allowed` says which ids there may be, None all. Raises ValueError for a stream that has
        read nothing yet, FloatingPointError where logits are not finite, and OutOfPages.
        """
        self._check(streams, [], len(streams))
        for stream in streams:
            if stream not in self._has_logits:
                raise ValueError(f"stream {stream} has read nothing that it could go on from")
        temperature = [0.0] * len(streams) if temperature is None else list(temperature)
        if len(temperature) != len(streams) or min(temperature, default=0.0) < 0:
            raise ValueError(f"temperature must be 0 or more, one per stream, got {temperature}")
        if any(temperature) and (uniforms is None or uniforms.shape != (num_ids, len(streams))):
            raise ValueError(f"uniforms must be {(num_ids, len(streams))} numbers in [0, 1)")
        self.memory.reserve(streams, [num_ids] * len(streams), exact=False)
        step, written = self._fixed_step, [[] for _ in streams]
        self._send(step.temperature[:, 0], streams, torch.tensor(temperature, dtype=torch.float64))
        step.allowed.fill_(True) if allowed is None else step.allowed.copy_(allowed, non_blocking=True)
        self._ask(streams, [CHOSEN] * len(streams))
        for start in range(0, num_ids, MOST_CHOSEN):
            num = min(MOST_CHOSEN, num_ids - start)
            if uniforms is not None:
                for row, uniform in zip(step.uniforms, uniforms[start : start + num], strict=False):
                    self._send(row, streams, uniform)
            step.num_read.zero_()
            for _ in range(num):
                self._run(streams)
            read = step.read[:num].tolist()  # here the host waits
            if any(row[stream] == NOT_FINITE for row in read for stream in streams):
                raise FloatingPointError("the model's logits are not finite; its weights may be broken")
            for ids, stream in zip(written, streams, strict=True):
                ids += [row[stream] for row in read]
        self._look()
        return written

    def _step(self, streams: Sequence[int], ids: Sequence[int]) -> StepOutput:
        step = self._fixed_step
        self._ask(streams, ids)
        self._run(streams)
        self._look()
        self._has_logits.update(streams)
        slots = sent(streams, self.model.device)
        probs, takes_part = step.boundary_prob.clone(), step.takes_part.clone()
        return StepOutput(step.logits[slots], partial(_boundaries, probs, takes_part, tuple(streams)))

    def _ask(self, streams: Sequence[int], ids: Sequence[int]) -> None:
        """What a step reads: these ids, and of other slots nothing."""
        asked = [NOBODY] * self.max_streams
        for stream, each in zip(streams, ids, strict=True):
            asked[stream] = each
        self._fixed_step.asked.copy_(sent(asked, self.model.device))

    def _send(self, to: Tensor, streams: Sequence[int], numbers: Tensor) -> None:
        """One number per stream, without waiting."""
        rows = torch.zeros(self.max_streams, dtype=to.dtype)
        rows[list(streams)] = numbers.to("cpu", to.dtype)
        to.copy_(rows.pin_memory() if to.device.type == "cuda" else rows, non_blocking=True)

    def _run(self, streams: Sequence[int]) -> None:
        """One step of these streams, for which there are pages."""
        if streams:
            self._launch(tuple(stage.num_entries(streams) for stage in self.memory.stages))

    def _look(self) -> None:
        """When all has been read that was asked for: take what has come from the device, and send for more."""
        known = self._seen.known()
        if known is not None:
            self.memory.learned(known)
        self._seen.look()

    def _launch(self, num_entries: tuple[int, ...]) -> None:
        """The step that reads so many entries in each stage of attention layers."""
        self._fixed_step(entries_by_state([stage.states for stage in self.memory.stages], num_entries))


class _Seen:
    """What the layers of each stage have seen, as the device sends it now and then.

    Only asked for when all steps that pages were taken for are on their way: what a later one adds is not known.
    """

    def __init__(self, stages: Sequence[PagedStage]) -> None:
        self._stages = stages
        self._is_cuda = any(stage.num_seen.is_cuda for stage in stages)
        self._copies = [torch.empty_like(stage.num_seen, device="cpu", pin_memory=self._is_cuda) for stage in stages]
        self._arrays = [copy.numpy() for copy in self._copies]
        self._asked: list[list[int]] | None = None
        self._event = torch.cuda.Event() if self._is_cuda else None
        self._num_steps = 0

    def look(self) -> None:
        """Once per `STEPS_PER_LOOK` calls: send for a copy."""
        self._num_steps += 1
        if self._asked is not None or self._num_steps < STEPS_PER_LOOK:
            return
        self._num_steps = 0
        self._asked = [stage.asked for stage in self._stages]
        for copy, stage in zip(self._copies, self._stages, strict=True):
            copy.copy_(stage.num_seen, non_blocking=True)
        if self._event is not None:
            self._event.record()

    def known(self) -> list[tuple[list[int], list[int]]] | None:
        """If a copy has come: what each stage had seen of each stream, and how much it had been asked to read."""
        if self._asked is None or not (self._event is None or self._event.query()):
            return None
        asked, self._asked = self._asked, None
        return [(array.tolist(), most) for array, most in zip(self._arrays, asked, strict=True)]

    def forget(self) -> None:
        """A copy that is on its way means nothing any more."""
        self._asked = None


def _boundaries(probs: Tensor, takes_part: Tensor, streams: Sequence[int], index: int) -> list[ByteBoundary]:
    """What each stage decided about the position of one stream."""
    found: list[float] = []
    for prob, starts_chunk in zip(
        probs[:, streams[index]].tolist(), takes_part[:, streams[index]].tolist(), strict=True
    ):
        found.append(prob)
        if not starts_chunk:
            return [ByteBoundary(tuple(found), len(found) - 1)]
    return [ByteBoundary(tuple(found), len(found))] if found else []
