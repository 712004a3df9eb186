"""A small model for the checks, and the text it reads."""

from typing import Any

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM

WIDTH = 32
TEXT = (
    "Three blind mice, see how they run - 3 of them! Καλημέρα; 你好。\ttabs\n\ndef f(x):\n    return x + 1  # code\n"
    "ACGTTGCAANNACGT \"Quoted: yes?\" (and more), 'end'."
).encode()

_TABLE: dict[str, Any] = {
    "arch_layout": ["m1", ["T1"], "m1"],
    "d_model": [WIDTH, 48],
    "d_intermediate": [0, 64],
    "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
    "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [8, 8], "window_size": [15, -1]},
}
_BYTE_MODEL: dict[str, Any] = {
    "arch_layout": ["m1"],
    "d_model": [WIDTH],
    "d_intermediate": [0],
    "ssm_cfg": _TABLE["ssm_cfg"],
    "attn_cfg": {"num_heads": [2], "rotary_emb_dim": [8], "window_size": [-1]},
}


def small_config(chunker: dict[str, Any], *, asks_byte_model: bool = False) -> HNetConfig:
    """A model of one stage that this entry of `chunkers` cuts."""
    byte_model = {"byte_model": _BYTE_MODEL} if asks_byte_model else {}
    return HNetConfig.from_dict({**_TABLE, "chunkers": [chunker], **byte_model})


def small_model(config: HNetConfig) -> HNetLM:
    """The same weights at every call, in float64; nothing of it is seen in what is drawn after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HNetLM(config).double()
