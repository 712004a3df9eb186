"""What a teacher says of every byte of a text: the distribution of the next one, computed once and kept.

The teacher reads the text as its tokenizer spells it. The probability of the next byte is a sum over all covers whose
tokens but the last are those of the text (`evaluation.spellings` says what a cover is): one call of the teacher gives
them all. What is kept of a distribution are the likeliest bytes; the others are one number, what is left to 1.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from hnet_lm.checkpoint import load
from hnet_lm.errors import ConfigError
from hnet_lm.evaluation.spellings import END
from hnet_lm.evaluation.token_tree import TokenTree
from hnet_lm.generation import vocabulary_of
from hnet_lm.outputs import Output
from hnet_lm.sequences import Sequences
from hnet_lm.tokenizer import load_tokenizer

NUM_KEPT = 16


class Lesson(NamedTuple):
    """Of each byte position the likeliest next ones. 256 stands for the end of the text."""

    values: Int[Tensor, "t k"]
    probs: Float[Tensor, "t k"]


class Teacher:
    """A saved model of tokens, read as a model of bytes."""

    def __init__(self, source: str) -> None:
        self.model = load(source, dtype=torch.float32).requires_grad_(False)
        if not self.model.config.reads_tokens:
            raise ConfigError(f"{source}: the teacher must be a model of tokens")
        self.tokenizer = load_tokenizer(source)
        self.vocabulary = vocabulary_of(self.model.config, self.tokenizer)
        self.tree = TokenTree([self.vocabulary.bytes_of(id) for id in range(self.vocabulary.size)])

    @classmethod
    def of(cls, source: str) -> "Teacher":
        """Loaded once per process."""
        return _teacher(source)

    @torch.no_grad()
    def lesson(self, texts: list[bytes], begins: list[bool]) -> Lesson:
        """Of several texts, one behind the other: before each byte and after the last, len(text) + 1 positions each.

        A text that does not begin a document (`begins`) begins with a byte of it, which is read as a token of its own
        and of which only what follows it is said: len(text) positions.
        """
        heads = [
            self.vocabulary.bos_id if first else self.tokenizer.encode_byte(text[0])
            for text, first in zip(texts, begins, strict=True)
        ]
        rests = [text if first else text[1:] for text, first in zip(texts, begins, strict=True)]
        spelled = [self.vocabulary.encode(rest) for rest in rests]
        ids = [[head, *tokens] for head, tokens in zip(heads, spelled, strict=True)]
        device = self.model.device
        packed = torch.tensor([id for some in ids for id in some], device=device)
        logits = self.model(packed, Sequences.from_lengths([len(some) for some in ids], device=device)).logits
        parts = logits.to("cpu", torch.float64).split([len(some) for some in ids])
        rows = [self._rows(rest, tokens, part) for rest, tokens, part in zip(rests, spelled, parts, strict=True)]
        probs, values = torch.from_numpy(np.concatenate(rows)).topk(NUM_KEPT, dim=-1)
        return Lesson(values.to(torch.int16), probs.to(torch.float16))

    def _rows(self, text: bytes, tokens: list[int], logits: Float[Tensor, "m v"]) -> np.ndarray:
        """(len(text) + 1, 257): the distribution before each byte of the text, and after the last."""
        data = self.vocabulary.prefix + text if tokens else text
        kept = torch.cat([logits[:, self.tree.ids], logits[:, [self.vocabulary.eos_id]]], 1).softmax(-1).numpy()
        weights: list[list[float]] = [[] for _ in range(len(data) + 1)]
        found: list[list[np.ndarray]] = [[] for _ in range(len(data) + 1)]
        start, logprob = 0, 0.0
        row_of = {int(id): row for row, id in enumerate(self.tree.ids)}
        for i, probs in enumerate(kept):
            node, position = self.tree.root, start
            while True:
                values, starts = self.tree.children(node)
                masses = np.zeros(END + 1)
                if len(values):
                    masses[values] = np.add.reduceat(probs[: node.end], starts)
                if position == start:
                    masses[END] = probs[-1]
                weights[position].append(logprob)
                found[position].append(masses)
                if position == len(data):
                    break
                child = self.tree.child(node, data[position])
                if child is None:
                    break
                node, position = child, position + 1
            if i < len(tokens):
                start += len(self.vocabulary.bytes_of(tokens[i]))
                logprob += float(np.log(max(probs[row_of[tokens[i]]], 1e-300)))
        rows = np.stack([_mixed(*each) for each in zip(weights, found, strict=True)])
        return rows[len(data) - len(text) :]


@cache
def _teacher(source: str) -> Teacher:
    return Teacher(source)


def _mixed(weights: list[float], found: list[np.ndarray]) -> np.ndarray:
    highest = max(weights)
    shares = np.exp(np.maximum(np.array(weights) - highest, -700.0))
    mixed = (shares[:, None] * np.stack(found)).sum(0)
    total = mixed.sum()
    return mixed / total if total > 0 else np.full(END + 1, 1 / (END + 1))


def kept_lesson(teacher: str, folder: str, texts: list[bytes], begins: list[bool]) -> Lesson:
    """The lesson, read from a file of the folder where it has been given before, else given and written.

    A file is named by the texts, so that another run on the same batches finds it too. No folder: nothing is kept.
    """
    if not folder:
        return Teacher.of(teacher).lesson(texts, begins)
    key = hashlib.sha256(repr((teacher, texts, begins)).encode()).hexdigest()
    path = Path(folder) / key[:2] / f"{key[2:]}.safetensors"
    try:
        found = load_file(path)
        return Lesson(found["values"], found["probs"])
    except (OSError, SafetensorError, KeyError):  # it is not there, or was damaged: it is given anew
        lesson = Teacher.of(teacher).lesson(texts, begins)
        path.parent.mkdir(parents=True, exist_ok=True)
        Output(str(path)).write(save({"values": lesson.values, "probs": lesson.probs}))
        return lesson
