"""A text as a vector is the pooled output of the innermost network, for models that learn to cut and for rules."""

from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from hnet_lm.config import HNetConfig
from hnet_lm.evaluation.embeddings import embed as embed_chunks
from hnet_lm.model import HNetLM
from hnet_lm.serving.embedding import Pooling, embed

TEXT = b"It was the best of times, it was the worst of times."
RULES: list[dict[str, Any]] = [
    {"name": "dynamic"},
    {"name": "space"},
    {"name": "pool", "stride": 6},
    {"name": "random", "rate": 0.2, "seed": 1},
]


def model_cut_by(chunker: dict[str, Any]) -> HNetLM:
    torch.manual_seed(0)
    config = {
        "arch_layout": ["m1", ["T1"], "m1"],
        "d_model": [64, 64],
        "d_intermediate": [0, 64],
        "vocab_size": 256,
        "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 1, "chunk_size": 64},
        "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [8, 8], "window_size": [-1, -1]},
        "chunkers": [chunker],
    }
    return HNetLM(HNetConfig.from_dict(config)).eval()


@pytest.mark.parametrize("chunker", RULES, ids=lambda chunker: chunker["name"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_it_pools_what_the_innermost_network_gives_out(chunker: dict[str, Any], pooling: Pooling) -> None:
    model = model_cut_by(chunker)
    chunks = embed_chunks(model, TEXT).chunks
    assert len(chunks) > 2
    wanted = normalize(chunks[-1] if pooling == "last" else chunks.mean(0), dim=0)
    torch.testing.assert_close(torch.tensor(embed(model, TEXT, pooling)), wanted)
