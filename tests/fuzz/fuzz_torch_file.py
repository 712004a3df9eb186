"""Weights in .pt files of others: a state dict, or a refusal; never an object that could run code."""

import io
from pathlib import PurePosixPath

import torch
from refusals import file_of, read_or_refused

from hnet_lm.config import HNetConfig
from hnet_lm.official import load_official

_CONFIG = HNetConfig.from_dict(
    {
        "arch_layout": ["T1"],
        "d_model": [8],
        "d_intermediate": [8],
        "attn_cfg": {"num_heads": [1], "rotary_emb_dim": [0], "window_size": [-1]},
    }
)


def _saved(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


SEEDS = (
    _saved({"model": {"a": torch.ones(2)}}, _use_new_zipfile_serialization=False),
    _saved({"a": torch.ones(1)}),
    _saved({"args": PurePosixPath("a"), "step": 3}, _use_new_zipfile_serialization=False),
    b"\x80\x02]q\x00.",
)


def check(data: bytes) -> None:
    read_or_refused(lambda: load_official(_CONFIG.to_dict(), file_of(data, "weights.pt")))
