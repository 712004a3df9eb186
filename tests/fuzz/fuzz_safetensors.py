"""Weights in .safetensors: tensors, or a refusal that names the file. Nothing of the file is kept mapped behind."""

import json
import struct

import torch
from refusals import file_of, read_or_refused
from safetensors.torch import save

from hnet_lm.weights import plain_names, read_safetensors

_HEADER = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}}).encode()
SEEDS = (
    save({"a.weight": torch.ones(2, 3), "b": torch.zeros(0)}, metadata={"format": "pt"}),
    save({"module._orig_mod.a": torch.ones(1, dtype=torch.bfloat16)}),
    struct.pack("<Q", len(_HEADER)) + _HEADER + bytes(8),
    b"version https://git-lfs.github.com/spec/v1\n",
)


def check(data: bytes) -> None:
    path = file_of(data, "model.safetensors")
    tensors = read_or_refused(lambda: read_safetensors(path))
    if tensors is not None:
        read_or_refused(lambda: plain_names(tensors, ["a.weight", "b"], str(path)))
        assert all(tensor.numel() * tensor.element_size() <= len(data) for tensor in tensors.values())
