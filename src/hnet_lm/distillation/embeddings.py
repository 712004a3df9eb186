"""What enters the student's main network is to be what the teacher's blocks have always read: embeddings of tokens.

[[loss.terms]]
name = "teacher_embeddings"        # squared distance of chunks from the embedding of the token before them
teacher = "models/bpe"
weight = 0.02

At the first byte of a token a model of bytes knows the token before it and not the token itself, so its chunk is
matched with the embedding of the token before (the paper's appendix; distance and weight are the paper's):

    L = mean_c |v_c - e_c|^2 / mean_i |e_i|^2

v_c is the vector of a chunk that starts at the first byte of a token, as it enters the main network, and e_c the
teacher's embedding of the token before. Other chunks do not count, nor do tokens whose first byte starts no chunk. The
distance is squared and not a cosine, since the vector goes into a residual stream, where its length matters beside what
the blocks add. The denominator, over the teacher's vocabulary, is our choice: with it a weight means the same for every
teacher, however long its embeddings are, and vectors of 0 cost 1.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hnet_lm.checkpoint import CONFIG, INDEX, SHARDS, local_directory, read_weights
from hnet_lm.config import HNetConfig
from hnet_lm.distillation.terms import require_bytes, texts_of, tokenizer_of
from hnet_lm.errors import ConfigError
from hnet_lm.losses.term import LossInputs, LossTerm, require_given, require_learned

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs

NONE = -1


@dataclass(frozen=True)
class TeacherEmbeddings(LossTerm):
    """|v - e|^2 over the mean of |e|^2, for chunks v that start with a token; e embeds the token before."""

    reads_progress: ClassVar[bool] = False
    weight: float = field(default=0.02, kw_only=True)
    teacher: str
    """A saved model of tokens with its tokenizer, as wide as the innermost network."""

    def check(self, model: HNetConfig) -> None:
        require_learned(model, 0, "teacher_embeddings")
        require_bytes(model, "teacher_embeddings")
        inner, teacher = model.stages[1].d_model, _config(self.teacher).stages[0].d_model
        if model.num_stages != 1:
            raise ConfigError(
                f"loss.terms: 'teacher_embeddings' is for models that chunk once, not {model.num_stages} times"
            )
        if inner != teacher:
            raise ConfigError(
                f"loss.terms: 'teacher_embeddings' compares vectors of one width, but the main network's are {inner} "
                f"wide and those of {self.teacher} {teacher}"
            )

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        routing = inputs.routing(0)
        chunks = require_given(routing.chunks, "teacher_embeddings")
        texts, begins = texts_of(inputs.seqs, inputs.logits.shape[-1])
        before = tokens_before(tokenizer_of(self.teacher), _config(self.teacher).bos_id, texts, begins)
        value = distance(chunks, before[routing.is_boundary.cpu()], _embeddings(self.teacher))
        return {"stage0/teacher_embeddings": value}


class Embeddings(NamedTuple):
    """A teacher's."""

    weight: Float[Tensor, "v d"]
    mean_square: float
    """The mean of their squared lengths."""


def distance(chunks: Float[Tensor, "c d"], before: Int[Tensor, " c"], embeddings: Embeddings) -> Float[Tensor, ""]:
    """Mean over chunks that have a token before them; 0 if none has."""
    is_matched = before != NONE
    chunks = chunks.to(torch.promote_types(chunks.dtype, torch.float32))[is_matched.to(chunks.device)]
    wanted = embeddings.weight[before[is_matched]].to(chunks)  # looked up on the CPU: a vocabulary may be large
    return (chunks - wanted).square().sum() / (embeddings.mean_square * max(1, len(chunks)))


def tokens_before(tokenizer: "BytePairs", bos_id: int, texts: list[bytes], begins: list[bool]) -> Int[Tensor, " t"]:
    """At the first byte of each token the id of the token before it, elsewhere `NONE`; BOS has positions as well.

    Before the first token of a text is BOS. A text that goes on begins with a byte that is a token of its own, before
    which nothing is known. Of tokens that share a first byte, parts of a character, the first one counts.
    """
    rows = []
    for text, first in zip(texts, begins, strict=True):
        of_text = torch.full((len(text),), NONE)
        skipped = 0 if first else 1
        if text[skipped:]:
            tokens = tokenizer.encode(text[skipped:])
            head = bos_id if first else tokenizer.encode_byte(text[0])
            starts, counts = np.unique(tokens.starts, return_index=True)
            before = np.concatenate([[head], tokens.ids[:-1]])[counts]
            of_text[torch.from_numpy(starts) + skipped] = torch.from_numpy(before)
        rows += [torch.full((1,), NONE), of_text] if first else [of_text]
    return torch.cat(rows)


@cache
def _config(source: str) -> HNetConfig:
    return HNetConfig.load(local_directory(source, (CONFIG,)) / CONFIG)


@cache
def _embeddings(source: str) -> Embeddings:
    """Read by themselves: where lessons are kept, nothing else of the teacher is needed."""
    weight = read_weights(local_directory(source, (CONFIG, INDEX, SHARDS)))["embedding.weight"]
    return Embeddings(weight, float(weight.double().square().sum(-1).mean()))
