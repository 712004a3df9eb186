"""What is added to the loss of a student: the teacher's cuts, and its probabilities of the next byte.

[[loss.terms]]
name = "token_boundaries"          # cross entropy of the boundary probabilities to the first bytes of tokens
teacher = "models/bpe"
weight = 1.0

[[loss.terms]]
name = "teacher_bytes"             # Kullback-Leibler divergence of the next byte's distribution from the teacher's
teacher = "models/bpe"
cache = "runs/student/lessons"
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from hnet_lm.config import HNetConfig
from hnet_lm.distillation.lessons import Lesson, kept_lesson
from hnet_lm.errors import ConfigError
from hnet_lm.evaluation.spellings import END
from hnet_lm.losses.term import LossInputs, LossTerm, require_learned
from hnet_lm.sequences import Sequences
from hnet_lm.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs

LEAST_PROB = 1e-6


@dataclass(frozen=True)
class TokenBoundaries(LossTerm):
    """-log p where a token of the teacher's tokenizer begins, -log(1 - p) elsewhere; first positions do not count."""

    reads_progress: ClassVar[bool] = False
    teacher: str
    """A saved model of tokens, for its tokenizer."""

    def check(self, model: HNetConfig) -> None:
        require_learned(model, 0, "token_boundaries")
        require_bytes(model, "token_boundaries")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        seqs, probs = inputs.seqs, inputs.routing(0).boundary_prob
        texts, begins = texts_of(seqs, inputs.logits.shape[-1])
        starts = token_starts(tokenizer_of(self.teacher), texts, begins).to(probs.device)
        probs = probs.to(torch.promote_types(probs.dtype, torch.float32)).clamp(LEAST_PROB, 1 - LEAST_PROB)
        counts = (seqs.positions > 0).to(probs.dtype)
        nats = binary_cross_entropy(probs, starts.to(probs.dtype), weight=counts, reduction="sum")
        return {"stage0/token_boundaries": nats / counts.sum().clamp(min=1)}


@dataclass(frozen=True)
class TeacherBytes(LossTerm):
    """Mean over positions of sum_b q(b) log(q(b) / p(b)), q the teacher's: over its likeliest bytes, and all others as
    one."""

    reads_progress: ClassVar[bool] = False
    teacher: str
    """A saved model of tokens with its tokenizer."""
    cache: str = ""
    """A folder in which what the teacher says of each batch is kept; none: it is asked anew."""

    def check(self, model: HNetConfig) -> None:
        require_bytes(model, "teacher_bytes")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        vocab_size = inputs.logits.shape[-1]
        texts, begins = texts_of(inputs.seqs, vocab_size)
        lesson = kept_lesson(self.teacher, self.cache, texts, begins)
        return {"loss/teacher_bytes": divergence(inputs.logits, lesson, vocab_size - 1)}


def divergence(logits: Float[Tensor, "t v"], lesson: Lesson, eos_id: int) -> Float[Tensor, ""]:
    """Of what the lesson says from the distributions of the logits, in nats; means over positions."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    values = lesson.values.to(logits.device, torch.int64)
    taught = lesson.probs.to(logits.device, logits.dtype)
    taught = taught / taught.sum(-1, keepdim=True).clamp(min=1)
    ids = torch.where(values == END, eos_id, values)
    ours = logits.log_softmax(-1).gather(-1, ids)
    rest_taught = (1 - taught.sum(-1)).clamp(min=0)
    rest_ours = (1 - ours.exp().sum(-1)).clamp(min=LEAST_PROB).log()
    kept = torch.xlogy(taught, taught) - taught * ours
    return (kept.sum(-1) + torch.xlogy(rest_taught, rest_taught) - rest_taught * rest_ours).mean()


def texts_of(seqs: Sequences, vocab_size: int) -> tuple[list[bytes], list[bool]]:
    """The bytes of each sequence, without BOS; and whether it began with BOS."""
    ids = seqs.require_input_ids("a term of distillation").cpu().split(seqs.host_lengths)
    bos_id = vocab_size - 2
    begins = [bool(len(some)) and int(some[0]) == bos_id for some in ids]
    return [bytes(some[int(first) :].tolist()) for some, first in zip(ids, begins, strict=True)], begins


def token_starts(tokenizer: "BytePairs", texts: list[bytes], begins: list[bool]) -> Bool[Tensor, " t"]:
    """Of each position, BOS among them, whether a token begins there. The first byte of a text that goes on is one."""
    marks = []
    for text, first in zip(texts, begins, strict=True):
        of_text = torch.zeros(len(text), dtype=torch.bool)
        skipped = 0 if first else 1
        if text[skipped:]:
            of_text[torch.from_numpy(tokenizer.encode(text[skipped:]).starts) + skipped] = True
        of_text[:skipped] = True
        marks += [torch.ones(1, dtype=torch.bool), of_text] if first else [of_text]
    return torch.cat(marks)


@cache
def tokenizer_of(source: str) -> "BytePairs":
    """Of a saved model of tokens; loaded once per process."""
    return load_tokenizer(source)


def require_bytes(model: HNetConfig, name: str) -> None:
    """Raises ConfigError for a model of tokens."""
    if model.reads_tokens:
        raise ConfigError(f"loss.terms: {name!r} teaches a model of bytes, not one of tokens")
