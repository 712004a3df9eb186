"""One completion on its way to the client: engine events as the fields of an OpenAI choice.

A stream sends each delta; an answer in one piece is the same deltas joined, so both say the same. With logprobs, an end
that the model chose has an entry too, named <eos>: `echo` with `max_tokens` 1 always gives one more than the prompt has
bytes, as harnesses that score texts take for granted.
"""

import codecs
from collections.abc import Iterable
from typing import Any

from hnet_lm.config import HNetConfig
from hnet_lm.generation import ByteLogprob, Event, Request
from hnet_lm.serving.protocol import CompletionBody
from hnet_lm.serving.responses import json_object, to_json

_FINISH_REASONS = {"eos": "stop", "stop": "stop", "length": "length"}


class Choice:
    """Turns the events of one request into deltas. State: how many characters of text there are."""

    def __init__(self, index: int, request: Request, body: CompletionBody, config: HNetConfig) -> None:
        self.index = index
        self.num_new_bytes = 0
        self._config = config
        self._wants_logprobs = body.logprobs is not None
        self._wants_routing = bool(body.routing)
        self._echo = request.prompt if body.echo else None
        self._echo_offsets = CharacterOffsets()
        prompt_text = request.prompt.decode("utf-8", "replace") if body.echo else ""
        self._offsets = CharacterOffsets(len(prompt_text))
        self._text_to_come = prompt_text

    def delta(self, event: Event) -> dict[str, Any] | None:
        """What is new; None if that is nothing the client asked for."""
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
        ended = bool(event.logprobs) and event.logprobs[-1].byte == self._config.eos_id
        new_bytes = event.logprobs[:-1] if ended else event.logprobs
        offsets = self._echo_offsets.of(item.byte for item in event.prompt_logprobs)
        offsets += self._offsets.of(item.byte for item in new_bytes)
        if ended:
            offsets.append(self._offsets.end)
        return {
            "tokens": [byte_name(item.byte, self._config) for item in items],
            "token_logprobs": [item.logprob for item in items],
            "top_logprobs": [_top(item, self._config) for item in items],
            "text_offset": offsets,
        }


class WholeChoice:
    """All deltas of one choice as one, encoded as they come: numbers take far less room as JSON than as objects."""

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
    """A JSON object of lists whose items are encoded already; null if there is none."""
    if not lists:
        return [b"null"]
    parts = [part for key, items in lists.items() for part in (b",", to_json(key), b":[", items, b"]")]
    return [b"{", *parts[1:], b"}"]


def byte_name(byte: int, config: HNetConfig) -> str:
    """ASCII as it is, other bytes as `bytes:\\xe4` (OpenAI's way for what is no text), special ids as <bos>, <eos>."""
    if byte in (config.bos_id, config.eos_id):
        return "<bos>" if byte == config.bos_id else "<eos>"
    return chr(byte) if byte < 0x80 else f"bytes:\\x{byte:02x}"


def _top(item: ByteLogprob, config: HNetConfig) -> dict[str, float]:
    return {byte_name(byte, config): logprob for byte, logprob in item.top}


class CharacterOffsets:
    """For each byte of a text the index of the character that it belongs to."""

    def __init__(self, num_characters: int = 0) -> None:
        self._num_characters = num_characters
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def end(self) -> int:
        """The number of characters that are complete."""
        return self._num_characters

    def of(self, data: Iterable[int]) -> list[int]:
        offsets = []
        for byte in data:
            decoded = len(self._decoder.decode(bytes([byte])))
            # A byte that ends one (invalid) character and starts another belongs to the last of them.
            offsets.append(self._num_characters + max(decoded - 1, 0))
            self._num_characters += decoded
        return offsets
