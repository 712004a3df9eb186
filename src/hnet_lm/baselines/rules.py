"""What chunkers by rule make of a text: the length of their chunks, and the entropy at which to cut."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from hnet_lm.chunker_config import ChunkerConfig, ChunkerSite
from hnet_lm.errors import ConfigError
from hnet_lm.model import HNetLM
from hnet_lm.model.dynamic_chunking.chunkers.entropy import entropy_in_bits
from hnet_lm.sequences import Sequences

PIECE_BYTES = 8192


def rule_bytes_per_chunk(rule: ChunkerConfig, documents: Iterable[bytes], bos_id: int) -> float:
    """Bytes per chunk when a rule that looks at the bytes cuts the documents. Raises ConfigError where there is no
    text."""
    chunker = rule.build(ChunkerSite(0, 1, bos_id, bos_id + 1))
    num_bytes = num_chunks = 0
    for text in documents:
        ids = _with_bos(bos_id, text)
        routing, _ = chunker(torch.zeros(len(ids), 1), Sequences.from_lengths([len(ids)]).with_input_ids(ids))
        num_bytes += len(ids) - 1
        num_chunks += int(routing.is_boundary.sum())
    if not num_bytes:
        raise ConfigError("there is no text to measure bytes per chunk on")
    return num_bytes / num_chunks


@torch.no_grad()
def entropy_threshold(byte_model: HNetLM, documents: Iterable[bytes], bytes_per_chunk: float) -> float:
    """The entropy in bits above which cutting gives chunks of so many bytes on these documents."""
    found = [entropies.cpu().numpy() for text in documents for entropies in _entropies(byte_model, text)]
    if not found:
        raise ConfigError("there is no text to measure entropies on")
    return float(np.quantile(np.concatenate(found), 1 - 1 / bytes_per_chunk))


def _entropies(byte_model: HNetLM, text: bytes) -> Iterator[Tensor]:
    """Of the guess of each byte, piece by piece."""
    state = byte_model.new_state(1)
    for piece in _with_bos(byte_model.config.bos_id, text)[:-1].split(PIECE_BYTES):
        out = byte_model(piece.to(byte_model.device), state=state)
        state = out.state
        yield entropy_in_bits(out.logits)


def _with_bos(bos_id: int, text: bytes) -> Tensor:
    return torch.tensor([bos_id, *text], dtype=torch.int64)
