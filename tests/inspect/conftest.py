from collections.abc import Callable

import numpy as np
import pytest
import torch

from chromium import browser as browser
from hnet_lm.config import HNetConfig
from hnet_lm.inspect import Chunks
from hnet_lm.model import HNetLM


def chunks_from_starts(data: bytes, *starts: list[int]) -> Chunks:
    """Chunks that start just there in each stage: 0.9 at the starts, 0.1 elsewhere."""
    offsets = np.arange(len(data))
    positions = []
    for stage_starts in starts:
        is_boundary = np.isin(offsets, stage_starts)
        positions.append((np.where(is_boundary, 0.9, 0.1).astype(np.float32), is_boundary))
        opens = is_boundary.copy()
        opens[:1] = True
        offsets = offsets[opens]
    return Chunks.from_positions(data, positions)


def random_model(arch_layout: list, num_stages: int) -> HNetLM:
    """Seeded, with boundaries where one cannot foresee them: inside characters, at byte 0 or not."""
    config = HNetConfig.from_dict(
        {
            "arch_layout": arch_layout,
            "d_model": [64] * num_stages,
            "d_intermediate": [64] * num_stages,
            "ssm_cfg": {"d_state": 8, "chunk_size": 16},
            "attn_cfg": {
                "num_heads": [2] * num_stages,
                "rotary_emb_dim": [16] * num_stages,
                "window_size": [7] * (num_stages - 1) + [-1],
            },
        }
    )
    torch.manual_seed(0)
    model = HNetLM(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "routing" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


@pytest.fixture(scope="session")
def make_chunks() -> Callable[..., Chunks]:
    return chunks_from_starts


@pytest.fixture(scope="session")
def models() -> dict[int, HNetLM]:
    """By number of stages that chunk."""
    return {
        0: random_model(["m1"], 1),
        1: random_model(["m1", ["T1"], "m1"], 2),
        2: random_model(["m1", ["t1m1", ["T1"], "m1"], "m1"], 3),
        3: random_model(["m1", ["m1", ["t1", ["T1"], "m1"], "m1"], "m1"], 4),
    }


@pytest.fixture(scope="session")
def sample() -> Chunks:
    """Two stages over a text with a wide character torn in the middle, a combining mark, control and invalid bytes."""
    data = "The 中文 cat\ne\u0301\0".encode() + b"\xff end"
    # 0123 456 789 ' '10 cat 11-13 \n 14, e 15, mark 16-17, \0 18, \xff 19, ' ' 20, end 21-23
    return chunks_from_starts(data, [0, 3, 5, 10, 15, 16, 20], [0, 5, 15])
