"""Small models with every chunker, for these tests."""

from typing import Any

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM

TEXT = "Three blind mice, see how they run - 3 of them! Καλημέρα, 你好。 tabs\tand\n\nlines (and_names) too".encode()

SMALL: dict[str, Any] = {
    "arch_layout": ["m1", ["T1"], "m1"],
    "d_model": [32, 48],
    "d_intermediate": [0, 64],
    "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
    "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [8, 8], "window_size": [15, -1]},
}

BYTE_MODEL: dict[str, Any] = {
    "arch_layout": ["m1t1"],
    "d_model": [32],
    "d_intermediate": [0],
    "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
    "attn_cfg": {"num_heads": [2], "rotary_emb_dim": [8], "window_size": [-1]},
}

FIXED: dict[str, dict[str, Any]] = {
    "space": {"name": "space"},
    "pool": {"name": "pool", "stride": 3},
    "random": {"name": "random", "rate": 0.3, "seed": 7},
    "entropy": {"name": "entropy", "threshold": 7.68},
    "oracle": {"name": "oracle"},
}


def small_config(chunker: str, **changes: Any) -> HNetConfig:
    """A one-stage model that this chunker cuts."""
    table = {**SMALL, "chunkers": [FIXED[chunker]], **changes}
    if chunker == "entropy":
        table["byte_model"] = BYTE_MODEL
    return HNetConfig.from_dict(table)


def small_model(chunker: str, seed: int = 0, **changes: Any) -> HNetLM:
    """With an untrained byte model, where it has one, whose entropies lie on both sides of the threshold."""
    torch.manual_seed(seed)
    model: Any = HNetLM(small_config(chunker, **changes))
    if chunker == "entropy":
        model.network.routing.byte_model.lm_head.weight.data.mul_(6)
    return model
