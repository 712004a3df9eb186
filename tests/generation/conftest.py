from collections.abc import Callable

import pytest
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM


def tiny_model(arch_layout: list, vocab_size: int = 256, windows: tuple[int, ...] = (-1, 15, -1)) -> HNetLM:
    """Seeded, with logits far enough apart that the last bits of a sum decide nothing, and lively boundaries."""
    num = 1
    inner = arch_layout
    while len(inner) == 3:
        num, inner = num + 1, inner[1]
    config = HNetConfig.from_dict(
        {
            "arch_layout": arch_layout,
            "d_model": [64] * num,
            "d_intermediate": [96] * num,
            "vocab_size": vocab_size,
            "ssm_cfg": {"d_state": 8, "chunk_size": 16},
            "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [16] * num, "window_size": list(windows[:num])},
        }
    )
    torch.manual_seed(0)
    model = HNetLM(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "routing" in name or "lm_head" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


@pytest.fixture(scope="session")
def make_model() -> Callable[..., HNetLM]:
    return tiny_model


@pytest.fixture(scope="session")
def model() -> HNetLM:
    """Two stages, with Mamba-2 and both kinds of attention."""
    return tiny_model(["m1", ["t1", ["T1"], "m1"], "m1"])


@pytest.fixture(scope="session")
def binary_model() -> HNetLM:
    """One stage, and a vocabulary for any bytes."""
    return tiny_model(["m1", ["T1"], "m1"], vocab_size=258)
