"""Hooks on parts of a stack see every call, also where a step of decoding would otherwise take all blocks at once."""

import pytest
import torch

from hnet_lm.config import AttentionConfig, Mamba2Config, StageConfig
from hnet_lm.model.isotropic import Isotropic
from hnet_lm.sequences import Sequences


@pytest.mark.parametrize("part", ["blocks.1", "blocks.0.mixer", "blocks.1.mixer", "blocks.1.mlp", "norm"])
@torch.no_grad()
def test_a_hook_is_called_in_a_step(part: str) -> None:
    stage = StageConfig(64, 96, AttentionConfig(num_heads=2, rotary_emb_dim=8), main_network="m1T1")
    stack, seqs = Isotropic("m1T1", stage, Mamba2Config(d_state=8)), Sequences.from_lengths([1, 1])
    for parameter in stack.parameters():  # a stack by itself leaves some as the memory was
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 64)
    wanted, _ = stack(x, seqs, stack.new_state(2))
    calls: list[str] = []
    handle = stack.get_submodule(part).register_forward_hook(lambda *_: calls.append(part))
    y, _ = stack(x, seqs, stack.new_state(2))
    assert calls == [part]
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-5)
    handle.remove()
    stack(x, seqs, stack.new_state(2))
    assert calls == [part]
