"""BPE tokenizers over bytes: those of a `tokenizer.json`, or trained here. A leaf: needs the package `tokenizers`.

A tokenizer must be able to encode every byte, with a byte-level alphabet (like GPT-2) or byte fallback (like Llama),
and must not change the text. Then any document has tokens, even if it is not UTF-8, and the probability of its tokens
is a probability of its bytes. Two things that tokenizers do are switched off, so that tokens represent the text
exactly: normalization to composed characters (NFC, as in Qwen's), and parsing names of special tokens as these tokens.
"""

import json
import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from hnet_lm.errors import DataError
from hnet_lm.inputs import local, read_text

NOT_UTF8 = re.compile("([\udc80-\udcff]+)")  # how Python's surrogateescape represents such bytes
PROBE = "Zoë, e\u0301 ﬁ ＡＢ 1\u00a02\t\r\n你好 🤖 x"  # what a normalizer would change
PROBES = ("", "x", " ", "\n", PROBE, f" {PROBE}", f"  {PROBE} ", f"\n{PROBE}\n")  # some add a space, or remove one
NUM_SPECIAL = 2  # BOS and EOS follow the tokens


class Tokens(NamedTuple):
    """Ids of tokens, and the first byte of each (if it starts inside a character, that of the character)."""

    ids: np.ndarray
    starts: np.ndarray


class BytePairs:
    """Encodes text. Raises DataError for a file that is not a tokenizer, or cannot encode every text exactly."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not os.path.exists(local(path)):
            raise DataError(f"{path}: no such file; give the path of a tokenizer.json")
        text = read_text(path)
        try:
            self._tokenizer = Tokenizer.from_str(_without_composition(text))
        except Exception as error:  # the library raises plain Exception
            raise DataError(f"{path}: not a tokenizer.json: {error}") from None
        self._tokenizer.no_truncation()  # which a file may ask for; it would lose the rest of each text
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self._byte_ids = self._ids_of_bytes(path)
        if any(self._changes(probe) for probe in PROBES):
            raise DataError(
                f"{path}: the tokenizer changes the text (a normalizer, or a space in front?), so its tokens are not "
                "the text"
            )
        for token in self._tokenizer.get_added_tokens_decoder().values():
            if token.lstrip or token.rstrip:
                raise DataError(f"{path}: the tokenizer changes the text: {token.content} takes the spaces beside it")

    @property
    def vocab_size(self) -> int:
        """Vocabulary size of a model that reads these tokens: all ids, followed by BOS and EOS."""
        return self.num_tokens + NUM_SPECIAL

    @property
    def num_tokens(self) -> int:
        """All ids are below this."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes of each id; empty for special tokens and unused ids."""
        return self._said

    @property
    def prefix(self) -> bytes:
        """What the tokens of a text spell before it; some tokenizers add a space."""
        return self._said_before

    @cached_property
    def _said(self) -> tuple[bytes, ...]:
        said = [b""] * self.num_tokens
        for name, id in self._tokenizer.get_vocab(with_added_tokens=False).items():
            said[id] = self._spelled(name)
        for id, token in self._tokenizer.get_added_tokens_decoder().items():
            said[id] = b"" if token.special else token.content.encode()
        return tuple(said)

    @cached_property
    def _said_before(self) -> bytes:
        said = b"".join(self.token_bytes[id] for id in self._encode("x").ids)
        return said.removesuffix(b"x")

    def encode(self, data: bytes) -> Tokens:
        """The tokens of the text; each byte that is not UTF-8 has a token."""
        found: list[Tokens] = []
        offset = 0
        for i, part in enumerate(NOT_UTF8.split(data.decode("utf-8", "surrogateescape"))):
            tokens = self._encode(part) if i % 2 == 0 else self._encode_bytes(part.encode("utf-8", "surrogateescape"))
            found.append(Tokens(tokens.ids, tokens.starts + offset))
            offset += len(part.encode("utf-8", "surrogateescape"))
        ids, starts = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return Tokens(ids, starts)

    def encode_byte(self, value: int) -> int:
        """The token of a single byte."""
        return int(self._byte_ids[value])

    def _spelled(self, name: str) -> bytes:
        if not self._is_byte_level:
            if re.fullmatch("<0x[0-9A-F]{2}>", name):
                return bytes([int(name[3:5], 16)])
            return (name.replace("\u2581", " ") if self._has_visible_spaces else name).encode()
        if all(character in _BYTE_OF_NAME for character in name):
            return bytes(_BYTE_OF_NAME[character] for character in name)
        return name.encode()

    @cached_property
    def _has_visible_spaces(self) -> bool:
        """Whether U+2581 in the name of a token means a space."""
        return "\u2581" in json.dumps(json.loads(self._tokenizer.to_str())["decoder"], ensure_ascii=False)

    def _changes(self, text: str) -> bool:
        return self._tokenizer.decode(self._encode(text).ids.tolist(), skip_special_tokens=False) != text

    def _encode_bytes(self, data: bytes) -> Tokens:
        return Tokens(self._byte_ids[np.frombuffer(data, dtype=np.uint8)], np.arange(len(data)))

    def _encode(self, text: str) -> Tokens:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        code_points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        widths = 1 + (code_points >= 0x80).astype(np.int64) + (code_points >= 0x800) + (code_points >= 0x10000)
        byte_of_character = np.concatenate([[0], np.cumsum(widths)])
        starts = np.array([start for start, _ in encoding.offsets], dtype=np.int64)  # in characters
        return Tokens(np.array(encoding.ids, dtype=np.int64), byte_of_character[starts])

    def _ids_of_bytes(self, path: Path) -> np.ndarray:
        for name in (_byte_level_name, _fallback_name):
            ids = [self._tokenizer.token_to_id(name(value)) for value in range(256)]
            if None not in ids:
                self._is_byte_level = name is _byte_level_name
                return np.array(ids, dtype=np.int64)
        raise DataError(f"{path}: the tokenizer has no tokens for single bytes (byte-level, or <0x00> to <0xFF>)")


def train_byte_pairs(documents: Iterable[bytes], num_tokens: int, path: str | Path) -> None:
    """Train a byte-level BPE tokenizer with so many tokens, 256 of them bytes, and write its `tokenizer.json`."""
    if num_tokens < 257:
        raise DataError(f"a BPE tokenizer has 257 tokens or more, 256 of them the bytes; got {num_tokens}")
    tokenizer: Any = Tokenizer(models.BPE())  # the library's stubs know neither its setters nor the trainer's options
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options: dict[str, Any] = {"vocab_size": num_tokens, "initial_alphabet": alphabet, "show_progress": False}
    trainer = trainers.BpeTrainer(**options)
    tokenizer.train_from_iterator((data.decode("utf-8", "ignore") for data in documents), trainer)
    Path(path).write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False), encoding="utf-8")


def _byte_level_name(value: int) -> str:
    """How byte-level tokenizers spell a byte: itself if it is a visible character of Latin-1, else from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return chr(value) if value in visible else chr(0x100 + hidden.index(value))


_BYTE_OF_NAME = {_byte_level_name(value): value for value in range(256)}


def _without_composition(description: str) -> str:
    table = json.loads(description)
    if isinstance(table, dict) and isinstance(table.get("normalizer"), dict) and table["normalizer"]["type"] == "NFC":
        return json.dumps(table | {"normalizer": None})
    return description


def _fallback_name(value: int) -> str:
    return f"<0x{value:02X}>"
