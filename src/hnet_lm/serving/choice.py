"""One completion on its way to the client: engine events as the fields of an OpenAI choice.

A stream sends each delta; an answer in one piece is the same deltas joined, so both say the same. With logprobs, an end
that the model chose has an entry too, named <eos>: `echo` with `max_tokens` 1 always gives one entry more than the
prompt has bytes, which evaluation harnesses rely on.
"""

import codecs
from collections.abc import Iterable
from typing import Any

from hnet_lm.generation import ByteLogprob, Event, Request, Vocabulary
from hnet_lm.serving.protocol import CompletionBody
from hnet_lm.serving.responses import json_object, to_json

_FINISH_REASONS = {"eos": "stop", "stop": "stop", "length": "length"}


class Choice:
    """Turns the events of one request into deltas. State: the number of characters so far."""

    def __init__(self, index: int, request: Request, body: CompletionBody, vocabulary: Vocabulary) -> None:
        self.index = index
        self.num_new_bytes = 0
        self._vocabulary = vocabulary
        self._wants_logprobs = body.logprobs is not None
        self._wants_routing = bool(body.routing)
        self._echo = request.prompt if body.echo else None
        self._echo_offsets = CharacterOffsets()
        prompt_text = request.prompt.decode("utf-8", "replace") if body.echo else ""
        self._offsets = CharacterOffsets(len(prompt_text))
        self._text_to_come = prompt_text

    def delta(self, event: Event) -> dict[str, Any] | None:
        """What is new; None if the client asked for none of it."""
        self.num_new_bytes += len(event.data)
        text, self._text_to_come = self._text_to_come + event.text, ""
        delta: dict[str, Any] = {
            "index": self.index,
            "text": text,
            "logprobs": self._logprobs(event) if self._wants_logprobs else None,
            "finish_reason": event.finish_reason and _FINISH_REASONS[event.finish_reason],
        }
        if self._wants_routing:
            delta["routing"] = {
                "bytes": list(event.data),
                "boundaries": [{"probs": list(b.probs), "depth": b.depth} for b in event.boundaries],
            }
        is_news = text or event.finish_reason or event.logprobs or event.prompt_logprobs
        return delta if is_news or (self._wants_routing and (event.data or event.boundaries)) else None

    def _logprobs(self, event: Event) -> dict[str, Any]:
        items = (*event.prompt_logprobs, *event.logprobs)
        ended = bool(event.logprobs) and event.logprobs[-1].byte == self._vocabulary.eos_id
        new = event.logprobs[:-1] if ended else event.logprobs
        said = self._vocabulary.bytes_of
        offsets = self._echo_offsets.of(said(item.byte) for item in event.prompt_logprobs)
        offsets += self._offsets.of(said(item.byte) for item in new)
        if ended:
            offsets.append(self._offsets.end)
        return {
            "tokens": [self._vocabulary.name(item.byte) for item in items],
            "token_logprobs": [item.logprob for item in items],
            "top_logprobs": [self._top(item) for item in items],
            "text_offset": offsets,
        }

    def _top(self, item: ByteLogprob) -> dict[str, float]:
        return {self._vocabulary.name(byte): logprob for byte, logprob in item.top}


class WholeChoice:
    """All deltas of one choice joined, encoded as they arrive: numbers take far less memory as JSON than as objects."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._text: list[str] = []
        self._finish_reason: str | None = None
        self._lists: dict[str, dict[str, bytearray]] = {"logprobs": {}, "routing": {}}

    def add(self, delta: dict[str, Any]) -> None:
        self._text.append(delta["text"])
        self._finish_reason = delta["finish_reason"]
        for field, lists in self._lists.items():
            for key, items in (delta.get(field) or {}).items():
                encoded = lists.setdefault(key, bytearray())
                if items:
                    encoded += (b"," if encoded else b"") + to_json(items)[1:-1]

    def parts(self) -> list[bytes | bytearray]:
        """Joined they are the choice in JSON."""
        fields = {"index": self._index, "text": "".join(self._text), "finish_reason": self._finish_reason}
        parts = json_object(fields, "logprobs", _object_of_lists(self._lists["logprobs"]))
        if self._lists["routing"]:
            parts = [*parts[:-1], b',"routing":', *_object_of_lists(self._lists["routing"]), b"}"]
        return parts


def _object_of_lists(lists: dict[str, bytearray]) -> list[bytes | bytearray]:
    """A JSON object of lists whose items are already encoded; null if there are none."""
    if not lists:
        return [b"null"]
    parts = [part for key, items in lists.items() for part in (b",", to_json(key), b":[", items, b"]")]
    return [b"{", *parts[1:], b"}"]


class CharacterOffsets:
    """For each byte (or token) of a text, the index of the character that it (or its first byte) belongs to."""

    def __init__(self, num_characters: int = 0) -> None:
        self._num_characters = num_characters
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def end(self) -> int:
        """The number of complete characters."""
        return self._num_characters

    def of(self, parts: Iterable[bytes]) -> list[int]:
        offsets = []
        for data in parts:
            decoded = len(self._decoder.decode(data[:1]))
            # A byte that ends one (invalid) character and starts another belongs to the last of them.
            offsets.append(self._num_characters + max(decoded - 1, 0))
            self._num_characters += decoded + len(self._decoder.decode(data[1:]))
        return offsets
