"""Tiny models for transformers: random, with logits far apart and boundaries at every few bytes."""

import torch
from torch import nn

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM

LAYOUTS = {"isotropic": ["T1"], "one stage": ["m1", ["T1"], "m1"], "two stages": ["m1", ["m1", ["T1"], "m1"], "m1"]}


def tiny(arch_layout: list, vocab_size: int = 256) -> HNetLM:
    num, inner = 1, arch_layout
    while len(inner) == 3:
        num, inner = num + 1, inner[1]
    config = HNetConfig.from_dict(
        {
            "arch_layout": arch_layout,
            "d_model": [32] * num,
            "d_intermediate": [48] * num,
            "vocab_size": vocab_size,
            "ssm_cfg": {"d_state": 8},
            "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [16] * num, "window_size": [-1] * num},
        }
    )
    torch.manual_seed(0)
    model = HNetLM(config)
    for name, parameter in model.named_parameters():
        if "routing" in name or "lm_head" in name:
            nn.init.normal_(parameter, 0.0, 0.3)
    return model.eval()
