"""What goes into the engine, a request, and what comes out, events."""

from dataclasses import dataclass, field
from typing import Literal

from hnet_lm.generation.params import SamplingParams
from hnet_lm.generation.sampling import ByteLogprob

FinishReason = Literal["eos", "stop", "length", "error"]
"""The model ended the text; a stop string came; `max_new_bytes` are there; the logits were not finite."""


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
class ByteBoundary:
    """A byte as the stages see it: its boundary probability in each stage that it reaches, outermost first.

    A byte that starts a chunk in a stage reaches the next one; `depth` counts the stages in which it does.
    """

    probs: tuple[float, ...]
    depth: int


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
