"""How every weight starts.

| weight                                     | start                                                             |
|--------------------------------------------|-------------------------------------------------------------------|
| embedding                                  | N(0, 1); N(0, 0.02^2) where it is the head as well (our choice)   |
| n-gram tables                              | 0 (`ngrams`)                                                      |
| head, every other linear map               | N(0, 0.02^2)                                                      |
| out_proj, fc2 (they add to the residual)   | N(0, 0.02^2) / sqrt(residual additions so far, see below)         |
| routing q_proj, k_proj                     | identity                                                          |
| residual_proj                              | weight 0, bias uniform as torch's Linear                          |
| pad vector                                 | 0                                                                 |
| biases of qkv_proj                         | 0                                                                 |
| norms, D                                   | 1                                                                 |
| A_log                                      | log of uniform [1, 16]                                            |
| dt_bias                                    | softplus^-1(dt), dt log-uniform in [1e-3, 1e-1], at least 1e-4    |
| convolution                                | as torch's Conv1d                                                 |

Residual additions are counted from the outermost stage inwards, to and with the stack's own stage; encoder and decoder
of a stage count together; a block without MLP adds 1, one with adds 2. (Reference code, of July 2025.)
"""

import math

import torch
from torch import nn

from hnet_lm.model.hnet import HNet
from hnet_lm.model.isotropic import Isotropic
from hnet_lm.model.mixers import Mamba2

STD = 0.02


@torch.no_grad()
def initialize(embedding: nn.Embedding, network: HNet | Isotropic, lm_head: nn.Linear | None) -> None:
    """Draw all weights of a language model from torch's global generator; on the meta device there are none."""
    if embedding.weight.is_meta:
        return
    nn.init.normal_(embedding.weight, std=STD if lm_head is None else 1.0)
    if lm_head is not None:
        nn.init.normal_(lm_head.weight, std=STD)
    _initialize_network(network, residual_additions=0)


def _initialize_network(network: HNet | Isotropic, residual_additions: int) -> None:
    if isinstance(network, Isotropic):
        _initialize_stacks([network], residual_additions)
        return
    residual_additions = _initialize_stacks([network.encoder, network.decoder], residual_additions)
    network.routing.initialize()
    if isinstance(network.residual_proj, nn.Linear):
        nn.init.zeros_(network.residual_proj.weight)
    if network.widen.pad_vector is not None:
        nn.init.zeros_(network.widen.pad_vector)
    _initialize_network(network.main_network, residual_additions)


def _initialize_stacks(stacks: list[Isotropic], residual_additions: int) -> int:
    """Initialize the stacks of one stage; returns the additions up to and with it."""
    blocks = [block for stack in stacks for block in stack.blocks]
    residual_additions += sum(1 if block.mlp is None else 2 for block in blocks)
    for block in blocks:
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear):
                adds_to_residual = name.endswith(("out_proj", "fc2"))
                nn.init.normal_(module.weight, std=STD / math.sqrt(residual_additions) if adds_to_residual else STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, Mamba2):
                _initialize_mamba2(module)
    return residual_additions


def _initialize_mamba2(mixer: Mamba2) -> None:
    mixer.A_log.copy_(torch.empty_like(mixer.A_log).uniform_(1, 16).log())
    dt = torch.empty_like(mixer.dt_bias).uniform_(math.log(1e-3), math.log(1e-1)).exp().clamp(min=1e-4)
    mixer.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))
    nn.init.ones_(mixer.D)
