"""Saved models for the tests of the commands, each made once, untrained; nobody writes into their directories."""

from typing import Any

import pytest
import torch

import hnet_lm
from hnet_lm import HNetConfig, HNetLM

SSM = {"d_state": 8}


def _saved(factory: pytest.TempPathFactory, config: dict[str, Any], *, cuts: bool = False) -> str:
    """The directory of a model of the configuration; one that `cuts` has routers drawn anew."""
    torch.manual_seed(0)
    num_stages = len(config["d_model"])
    attention = {key: [value] * num_stages for key, value in (("num_heads", 2), ("rotary_emb_dim", 16))}
    attention["window_size"] = [-1] * num_stages
    model = HNetLM(HNetConfig.from_dict({**config, "ssm_cfg": SSM, "attn_cfg": attention}))
    for name, parameter in model.named_parameters():
        if cuts and "routing" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    directory = factory.mktemp("models") / "tiny"
    hnet_lm.save(model, directory)
    return str(directory)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of one stage."""
    config = {"arch_layout": ["m1", ["T1"], "m1"], "d_model": [64, 64], "d_intermediate": [0, 64]}
    return _saved(tmp_path_factory, config)


@pytest.fixture(scope="session")
def two_stages(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of two stages that cut."""
    layout = ["m1", ["m1", ["T1"], "m1"], "m1"]
    config = {"arch_layout": layout, "d_model": [64, 64, 64], "d_intermediate": [0, 0, 64]}
    return _saved(tmp_path_factory, config, cuts=True)
