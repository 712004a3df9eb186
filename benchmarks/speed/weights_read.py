"""What bounds one stream: a byte of text cannot come sooner than the weights it needs have been read from memory.

Stages that work on every byte are read for each, an inner stage once a chunk, of the embedding one row.
"""

from collections.abc import Sequence

from hnet_lm.model import HNetLM


def weight_bytes_read(model: HNetLM, bytes_per_chunk: Sequence[float]) -> float:
    """Bytes of weights read for a byte of text. `bytes_per_chunk` are the bytes of input a chunk of each stage."""
    positions_per_byte = [1.0, *(1 / length for length in bytes_per_chunk)]
    stages = model.parameter_stages()
    total = 0.0
    for name, parameter in model.named_parameters():
        rows_read = parameter[:1] if name == "embedding.weight" and model.lm_head is not None else parameter
        total += rows_read.numel() * parameter.element_size() * positions_per_byte[stages[name]]
    return total
