"""`hnet-lm generate`: continue prompts from arguments, a file or standard input, or interactively."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from hnet_lm.cli.loading import PrecisionOption, load_model, tokenizer_of
from hnet_lm.cli.short_work import backends_for
from hnet_lm.cli.terminal import print_json, typed_bytes
from hnet_lm.errors import UserError
from hnet_lm.generation import Engine, EngineLimits, Event, Request, SamplingParams
from hnet_lm.inputs import STANDARD_INPUT, read_bytes

# control characters, which a terminal would interpret, except tab and line feed
_SHOWN = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
_SHOWN |= dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)


@dataclass(frozen=True)
class Command:
    """Continue prompts: each argument is one, or a file, or standard input. Without --seed each run differs."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    prompts: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PROMPT")] = ()
    """Prompts; an empty one ('') starts from nothing."""
    file: Path | None = None
    """Read the prompt from a file, as its bytes are; - is standard input."""
    lines: bool = False
    """Each line of the file or of standard input is a prompt of its own."""
    interactive: bool = False
    """Read prompts from the terminal and continue each, until Ctrl-D; Ctrl-C ends a continuation."""
    echo: bool = False
    """Print each prompt before its continuation."""
    json: bool = False
    """Print a JSON object per prompt: prompt, text, num_bytes, finish_reason, and the log-probabilities asked for."""
    raw: bool = False
    """Write the bytes of the continuations, concatenated, and nothing else."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    precision: PrecisionOption = None
    sampling: tyro.conf.OmitArgPrefixes[SamplingParams] = field(default_factory=SamplingParams)
    limits: tyro.conf.OmitArgPrefixes[EngineLimits] = field(default_factory=EngineLimits)

    def run(self) -> None:
        if sum((self.json, self.raw, self.echo)) > 1:
            raise UserError("--json, --raw and --echo exclude each other")
        if self.interactive and (self.prompts or self.file or self.lines or self.json or self.raw):
            raise UserError("--interactive takes neither prompts nor --file, --lines, --json, --raw")
        prompts = [] if self.interactive else self._read_prompts()
        model = load_model(self.model, self.device, self.precision)
        tokenizer = tokenizer_of(self.model, model)
        if self.interactive:
            _converse(Engine(model, self.limits.for_requests(1), tokenizer=tokenizer), self.sampling)
            return
        num_bytes = sum(len(prompt) + self.sampling.max_new_bytes for prompt in prompts)
        with backends_for(model, num_bytes):
            engine = Engine(model, self.limits.for_requests(len(prompts)), tokenizer=tokenizer)
            requests = {engine.submit(Request(prompt, self.sampling)): prompt for prompt in prompts}
            if self.json:
                _write_json(engine, requests)
            elif self.raw:
                for event in _in_order(engine, requests):
                    sys.stdout.buffer.write(event.data)
            else:
                _write_text(engine, requests, self.echo)

    def _read_prompts(self) -> list[bytes]:
        if self.prompts:
            if self.file or self.lines:
                raise UserError("prompts are given as arguments, so leave out --file and --lines")
            return [typed_bytes(prompt) for prompt in self.prompts]
        if self.file is None and sys.stdin.isatty():
            raise UserError("no prompt: give one as an argument, --file FILE, text on standard input, or --interactive")
        data = read_bytes(self.file or STANDARD_INPUT)
        return data.splitlines() if self.lines else [data]


def _in_order(engine: Engine, handles: Mapping[int, bytes]) -> Iterator[Event]:
    """The events of the first request as they arrive, then those of the second, while all of them run."""
    waiting: dict[int, list[Event]] = {handle: [] for handle in handles}
    for handle, events in waiting.items():
        finished = False
        while not finished:
            for event in events:
                if event.finish_reason == "error":
                    raise UserError(
                        "the model's logits are not finite: its weights are damaged, or their type is too narrow"
                    )
                yield event
                finished = event.finish_reason is not None
            events.clear()
            if not finished:
                for event in engine.step():
                    waiting[event.handle].append(event)
        assert not waiting[handle]


def _write_text(engine: Engine, requests: Mapping[int, bytes], echo: bool) -> None:
    last = None
    for event in _in_order(engine, requests):
        if event.handle != last and last is not None:
            print("\n")
        if event.handle != last and echo:
            _show(requests[event.handle].decode("utf-8", "replace"))
        last = event.handle
        _show(event.text)
    print()


def _write_json(engine: Engine, requests: Mapping[int, bytes]) -> None:
    collected: list[Event] = []
    for event in _in_order(engine, requests):
        collected.append(event)
        if event.finish_reason is not None:
            print_json(_summary(requests[event.handle], collected))
            collected.clear()


def _summary(prompt: bytes, events: list[Event]) -> dict[str, Any]:
    logprobs = [asdict(item) for event in events for item in event.logprobs]
    return {
        "prompt": prompt.decode("utf-8", "replace"),
        "text": "".join(event.text for event in events),
        "num_bytes": sum(len(event.data) for event in events),
        "finish_reason": events[-1].finish_reason,
        **({"logprobs": logprobs} if logprobs else {}),
    }


def _converse(engine: Engine, sampling: SamplingParams) -> None:
    while True:
        try:
            prompt = typed_bytes(input("> "))
        except EOFError:
            print()
            return
        try:
            _write_text(engine, {engine.submit(Request(prompt, sampling)): prompt}, echo=True)
        except KeyboardInterrupt:
            engine.cancel_all()
            print()


def _show(text: str) -> None:
    sys.stdout.write(text.translate(_SHOWN) if sys.stdout.isatty() else text)
    sys.stdout.flush()
