"""A saved model for the tests of the commands, made once."""

import pytest
import torch

import hnet_lm
from hnet_lm import HNetConfig, HNetLM


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of one stage, untrained; nobody writes into its directory."""
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("models") / "tiny"
    config = {
        "arch_layout": ["m1", ["T1"], "m1"],
        "d_model": [64, 64],
        "d_intermediate": [0, 64],
        "ssm_cfg": {"d_state": 8},
        "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [16, 16], "window_size": [-1, -1]},
    }
    hnet_lm.save(HNetLM(HNetConfig.from_dict(config)), directory)
    return str(directory)
