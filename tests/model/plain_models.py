"""Small models in which every part matters, for tests of what wraps, quantises, compiles or exports a model."""

from typing import Any

import torch
from torch import nn

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM

LINEAR = ("in_proj", "out_proj", "qkv_proj", "fc1", "fc2")
"""What adapters and quantisation usually replace."""


def config_of(layout: list[Any], widths: tuple[int, ...], *, d_state: int = 8, tied: bool = False) -> HNetConfig:
    num = len(widths)
    return HNetConfig.from_dict(
        {
            "arch_layout": layout,
            "d_model": list(widths),
            "d_intermediate": [48] * num,
            "ssm_cfg": {"d_state": d_state, "expand": 4},
            "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [8] * num, "window_size": [5] * num},
            "tie_embeddings": tied,
        }
    )


def hnet(**options: Any) -> HNetLM:
    """One stage; every kind of block, twice."""
    return lively(config_of(["m1t1", ["T1M1"], "M1t1"], (32, 48), **options))


def isotropic(**options: Any) -> HNetLM:
    """No stage: its main network is all of it."""
    return lively(config_of(["m1T1"], (32,), **options))


def lively(config: HNetConfig) -> HNetLM:
    """Weights under which all parts contribute and the router cuts often. The same ones at every call."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = HNetLM(config)
        for name, parameter in model.named_parameters():
            if "routing" in name:  # cosines of vectors in three dimensions spread evenly from -1 to 1
                parameter.copy_(torch.eye(len(parameter), 3) @ torch.randn(3, len(parameter)))
            elif parameter.dim() == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
            elif name.endswith(("norm.weight", "D")):
                parameter.uniform_(0.5, 1.5)
            elif not name.endswith(("conv.weight", "A_log", "dt_bias")):
                parameter.normal_(std=0.5)
    return model


def parts(model: nn.Module, *names: str) -> dict[str, nn.Module]:
    """Every submodule that has one of these names, by its path."""
    return {path: module for path, module in model.named_modules() if path.rpartition(".")[2] in names}
