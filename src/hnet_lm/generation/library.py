"""`generate`, `stream` and `score`: the engine for those who only want the answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from hnet_lm.generation.engine import Engine
from hnet_lm.generation.limits import EngineLimits
from hnet_lm.generation.params import RequestError, SamplingParams, as_bytes
from hnet_lm.generation.request import Event, Request
from hnet_lm.generation.vocabulary import Tokenizer
from hnet_lm.model import HNetLM


@overload
def generate(
    model: HNetLM, prompts: Sequence[str | bytes], *, return_bytes: Literal[True], **options: Any
) -> list[bytes]: ...
@overload
def generate(
    model: HNetLM, prompts: Sequence[str | bytes], *, return_bytes: Literal[False] = False, **options: Any
) -> list[str]: ...
def generate(
    model: HNetLM,
    prompts: Sequence[str | bytes],
    *,
    return_bytes: bool = False,
    limits: EngineLimits | None = None,
    tokenizer: Tokenizer | None = None,
    **sampling: Any,
) -> list[str] | list[bytes]:
    """The continuation of every prompt, in order, without the prompt. A model of tokens goes with its `tokenizer`.

    `sampling` are the fields of `SamplingParams`: max_new_bytes, temperature, top_p, seed, stop and so on. Equal
    prompts with one seed get equal continuations. Invalid UTF-8 is replaced in strings.
    """
    params = SamplingParams.from_options(**sampling)
    requests = [Request(prompt, params) for prompt in _prompts(prompts, "prompts")]
    engine = Engine(model, (limits or EngineLimits()).for_requests(len(requests)), tokenizer=tokenizer)
    results = [_finished(events) for events in _run(engine, requests)]
    if return_bytes:
        return [b"".join(event.data for event in events) for events in results]
    return ["".join(event.text for event in events) for events in results]


def stream(model: HNetLM, prompt: str | bytes, *, tokenizer: Tokenizer | None = None, **sampling: Any) -> Iterator[str]:
    """The continuation of one prompt as it comes, in pieces of text; whole characters, and no part of a stop string."""
    request = Request(as_bytes(prompt, "prompt"), SamplingParams.from_options(**sampling))
    engine = Engine(model, EngineLimits().for_requests(1), tokenizer=tokenizer)
    engine.submit(request)
    return _texts(engine)


@dataclass(frozen=True)
class Score:
    """Log-probability of a continuation in nats: of each byte, and of all."""

    byte_logprobs: tuple[float, ...]
    """One per byte of the continuation."""

    @property
    def logprob(self) -> float:
        """Of the whole continuation: their sum."""
        return sum(self.byte_logprobs)


def score(
    model: HNetLM,
    prompts: Sequence[str | bytes],
    continuations: Sequence[str | bytes],
    *,
    limits: EngineLimits | None = None,
) -> list[Score]:
    """The log-probability of each continuation after its prompt; the end of the text is not counted.

    Raises RequestError for a text that outgrows the pool of keys and values, and for a model of tokens, of which
    `evaluation.TokenScorer` says the same.
    """
    if model.config.reads_tokens:
        raise RequestError("score takes a model of bytes; one of tokens is scored by evaluation.TokenScorer")
    befores, afters = _prompts(prompts, "prompts"), _prompts(continuations, "continuations")
    if len(befores) != len(afters):
        raise RequestError(f"score takes one continuation a prompt, got {len(befores)} prompts and {len(afters)}")
    params = SamplingParams(max_new_bytes=0)
    requests = [
        Request(before + after, params, prompt_logprobs=True) for before, after in zip(befores, afters, strict=True)
    ]
    engine = Engine(model, (limits or EngineLimits()).for_requests(len(requests)))
    scores = []
    for before, request, events in zip(befores, requests, _run(engine, requests), strict=True):
        logprobs = [item.logprob for event in _finished(events) for item in event.prompt_logprobs]
        if len(logprobs) < len(request.prompt):
            raise RequestError(
                f"a text of {len(request.prompt)} bytes outgrows the pool of keys and values after {len(logprobs)}; "
                "shorten it, or raise pool_bytes"
            )
        scores.append(Score(tuple(logprobs[len(before) :])))
    return scores


def _run(engine: Engine, requests: Sequence[Request]) -> list[list[Event]]:
    """The events of every request, in the requests' order."""
    events: dict[int, list[Event]] = {engine.submit(request): [] for request in requests}
    while engine.has_work:
        for event in engine.step():
            events[event.handle].append(event)
    return list(events.values())


def _texts(engine: Engine) -> Iterator[str]:
    while engine.has_work:
        events = _finished(engine.step())
        yield from (event.text for event in events if event.text)


def _finished(events: list[Event]) -> list[Event]:
    if any(event.finish_reason == "error" for event in events):
        raise FloatingPointError("the model's logits are not finite; its weights may be broken or of too narrow a type")
    return events


def _prompts(prompts: Sequence[str | bytes], name: str) -> list[bytes]:
    if isinstance(prompts, str | bytes):
        raise RequestError(f"{name} must be a list of strings; put a single one into a list")
    return [as_bytes(prompt, f"{name}[{index}]") for index, prompt in enumerate(prompts)]
