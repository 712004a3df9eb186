"""What the ids of a model say: a byte each, or the bytes of a token.

A request is bytes that go in and bytes that come out; between them are ids. Special ids say nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.generation import utf8
from hnet_lm.generation.params import RequestError


class Tokenizer(Protocol):
    """As `hnet_lm.load_tokenizer` returns it."""

    @property
    def num_tokens(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def token_bytes(self) -> Sequence[bytes]: ...

    @property
    def prefix(self) -> bytes: ...

    def encode(self, data: bytes) -> Any: ...


class Vocabulary(ABC):
    """The ids of one model."""

    prefix = b""
    """What the ids of a text say before it."""

    def __init__(self, config: HNetConfig) -> None:
        self.size, self.bos_id, self.eos_id = config.vocab_size, config.bos_id, config.eos_id
        said = [len(self.bytes_of(id)) for id in range(self.size)]
        self.lengths: Int[Tensor, " v"] = torch.tensor(said)
        """How many bytes each id says."""

    @abstractmethod
    def encode(self, prompt: bytes) -> list[int]:
        """Raises RequestError for a prompt that has no ids."""

    @abstractmethod
    def bytes_of(self, id: int) -> bytes:
        """What an id says; nothing, if it is special."""

    @abstractmethod
    def valid(self, states: Int[Tensor, " b"], room: Int[Tensor, " b"]) -> Bool[Tensor, "b v"]:
        """The ids that keep the text valid UTF-8 and whose last character still fits into `room` bytes."""

    def name(self, id: int) -> str:
        """Text as it is, other bytes as `bytes:\\xe4` (OpenAI's way for what is no text), special ids as <bos>."""
        data = self.bytes_of(id)
        if not data:
            return {self.bos_id: "<bos>", self.eos_id: "<eos>"}.get(id, f"<{id}>")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class ByteVocabulary(Vocabulary):
    """An id is a byte."""

    def encode(self, prompt: bytes) -> list[int]:
        for name, special in (("start", self.bos_id), ("end", self.eos_id)):
            if special < 256 and special in prompt:
                raise RequestError(
                    f"prompt: byte {prompt.index(special)} is {special:#x}, which this model reads as the "
                    f"{name} of a text; binary data needs a model with a vocabulary of 258"
                )
        return list(prompt)

    def bytes_of(self, id: int) -> bytes:
        return b"" if id > 255 or id in (self.bos_id, self.eos_id) else bytes([id])

    def valid(self, states: Int[Tensor, " b"], room: Int[Tensor, " b"]) -> Bool[Tensor, "b v"]:
        valid = torch.zeros(len(states), self.size, dtype=torch.bool)
        valid[:, :256] = utf8.allowed_bytes(states, room)
        return valid


class TokenVocabulary(Vocabulary):
    """An id is a token."""

    def __init__(self, config: HNetConfig, tokenizer: Tokenizer) -> None:
        """Raises ConfigError where the vocabulary is not the model's."""
        check_tokenizer(config, tokenizer)
        self.tokenizer = tokenizer
        self.prefix = tokenizer.prefix
        self._said = [*tokenizer.token_bytes, *[b""] * (config.vocab_size - tokenizer.num_tokens)]
        self._said[config.bos_id] = self._said[config.eos_id] = b""
        super().__init__(config)

    def encode(self, prompt: bytes) -> list[int]:
        return self.tokenizer.encode(prompt).ids.tolist() if prompt else []

    def bytes_of(self, id: int) -> bytes:
        return self._said[id]

    @cached_property
    def _states_after(self) -> Int[Tensor, "states v"]:
        """The state that each id leads to from each state; REJECT where it is not valid."""
        longest = max(map(len, self._said))
        padded = np.frombuffer(b"".join(said.ljust(longest, b"\0") for said in self._said), dtype=np.uint8)
        padded = padded.reshape(len(self._said), longest)
        moves = utf8.transitions()
        num_states = len(moves) - 1  # the last row is that of a text that is not valid any more
        states = np.repeat(np.arange(num_states)[:, None], len(padded), axis=1)
        lengths = self.lengths.numpy()
        for i in range(longest):
            longer = lengths > i
            states[:, longer] = moves[states[:, longer], padded[longer, i]]
        states[states == num_states] = utf8.REJECT
        return torch.from_numpy(states)

    def valid(self, states: Int[Tensor, " b"], room: Int[Tensor, " b"]) -> Bool[Tensor, "b v"]:
        after = self._states_after[states]  # b v
        to_come = torch.tensor(utf8.BYTES_TO_COME)
        needed = self.lengths + to_come[after.clamp(min=0)]
        # An incomplete character (the prompt's) that the room cannot complete: go on with it all the same.
        needed = torch.where((room < to_come[states])[:, None], self.lengths, needed)
        return (after != utf8.REJECT) & (needed <= room[:, None]) & (self.lengths > 0)


def vocabulary_of(config: HNetConfig, tokenizer: Tokenizer | None) -> Vocabulary:
    """Raises ConfigError for a model of tokens without its tokenizer, and for one of bytes with one."""
    if not config.reads_tokens:
        if tokenizer is not None:
            raise ConfigError("the model reads bytes, and needs no tokenizer")
        return ByteVocabulary(config)
    if tokenizer is None:
        raise ConfigError(
            "the model reads tokens of a tokenizer, not bytes: give it, as hnet_lm.load_tokenizer returns it"
        )
    return TokenVocabulary(config, tokenizer)


def check_tokenizer(config: HNetConfig, tokenizer: Tokenizer, where: str = "the tokenizer") -> None:
    """Raises ConfigError where the vocabulary is not that of the model."""
    if config.special_ids is None and config.vocab_size != tokenizer.vocab_size:
        sizes = f"{tokenizer.vocab_size} entries with BOS and EOS, the model {config.vocab_size}"
        raise ConfigError(f"{where} is not the model's: it has {sizes}")
    if tokenizer.num_tokens > config.vocab_size:
        raise ConfigError(
            f"{where} is not the model's: it has {tokenizer.num_tokens} entries, the model {config.vocab_size}"
        )
