from collections.abc import Callable

import pytest
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM


def float64_model(arch_layout: list, vocab_size: int = 256) -> HNetLM:
    """Seeded, with lively boundaries; in float64, so that results are exact to far below a millionth of a bit."""
    num, inner = 1, arch_layout
    while len(inner) == 3:
        num, inner = num + 1, inner[1]
    config = HNetConfig.from_dict(
        {
            "arch_layout": arch_layout,
            "d_model": [32] * num,
            "d_intermediate": [48] * num,
            "vocab_size": vocab_size,
            "ssm_cfg": {"d_state": 8, "chunk_size": 16},
            "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [8] * num, "window_size": [15, 7, -1][-num:]},
        }
    )
    torch.manual_seed(0)
    model = HNetLM(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "routing" in name or "lm_head" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model.double()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., HNetLM]:
    return float64_model


@pytest.fixture(scope="session")
def model() -> HNetLM:
    """Two stages of Mamba-2 and windowed attention, one of global attention."""
    return float64_model(["m1t1", ["T1m1", ["T1"], "m1"], "m1"])


@pytest.fixture(scope="session")
def binary_model() -> HNetLM:
    """One stage, and a vocabulary for any bytes."""
    return float64_model(["m1", ["T1"], "m1"], vocab_size=258)
