"""What goes into the engine, a request, and what comes out, events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, Self

from hnet_lm.generation.boundaries import ByteBoundary
from hnet_lm.generation.params import SamplingParams
from hnet_lm.generation.sampling import ByteLogprob

FinishReason = Literal["eos", "stop", "length", "error"]
"""The model ended the text; a stop string came; `max_new_bytes` are there, or the request outgrew the pool of keys and
values; the logits were not finite."""


@dataclass(frozen=True)
class Request:
    """A prompt (without BOS, which the engine puts in front) and how to go on from it."""

    prompt: bytes
    params: SamplingParams = field(default_factory=SamplingParams)
    prompt_logprobs: bool = False
    """Report the log-probability of every prompt byte as well, with as many likeliest bytes as `params.logprobs`."""
    boundaries: bool = False
    """Report what every byte is to the chunker, once the model has read it: all bytes but the last new one."""


@dataclass(frozen=True)
class Event:
    """What one step brought for one request. Joined over all events, each field is whole and in order."""

    handle: int
    data: bytes = b""
    """New bytes that no stop string can cut off any more."""
    text: str = ""
    """The text they complete; a character whose last byte is still to come is held back."""
    logprobs: tuple[ByteLogprob, ...] = ()
    """One for each byte of `data`, and one for the end of the text where the model chose it, if asked for."""
    prompt_logprobs: tuple[ByteLogprob, ...] = ()
    boundaries: tuple[ByteBoundary, ...] = ()
    finish_reason: FinishReason | None = None
    """Set in the last event of a request."""

    @property
    def is_empty(self) -> bool:
        contents = (self.data, self.text, self.prompt_logprobs, self.boundaries, self.finish_reason)
        return not any(contents)

    @property
    def num_numbers(self) -> int:
        """How many bytes it reports something of: log-probabilities, or what they are to the chunker."""
        return len(self.logprobs) + len(self.prompt_logprobs) + len(self.boundaries)

    @classmethod
    def joined(cls, events: Sequence[Self]) -> Self:
        """What consecutive events of one request say, as one event."""
        if len(events) == 1:
            return events[0]
        return cls(
            events[0].handle,
            b"".join(event.data for event in events),
            "".join(event.text for event in events),
            tuple(chain.from_iterable(event.logprobs for event in events)),
            tuple(chain.from_iterable(event.prompt_logprobs for event in events)),
            tuple(chain.from_iterable(event.boundaries for event in events)),
            events[-1].finish_reason,
        )
