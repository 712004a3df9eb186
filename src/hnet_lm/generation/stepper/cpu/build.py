"""A model as a program: module after module, each as the tasks that do what its forward does with one position."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hnet_lm.generation.rounded_weights import RoundedLinear
from hnet_lm.generation.stepper.cpu.attention import add_attention
from hnet_lm.generation.stepper.cpu.chunking import add_downsampling, add_routing, add_upsampling
from hnet_lm.generation.stepper.cpu.layers import add_embedding, add_mlp, add_norm, add_normed
from hnet_lm.generation.stepper.cpu.mamba2 import add_mamba2
from hnet_lm.generation.stepper.cpu.products import add_product
from hnet_lm.generation.stepper.cpu.program import Program, Rows
from hnet_lm.generation.stepper.cpu.rules import add_rule
from hnet_lm.model import HNetLM
from hnet_lm.model.block import Block, PostNormBlock
from hnet_lm.model.dynamic_chunking import RoutingModule
from hnet_lm.model.hnet import HNet, HNetState
from hnet_lm.model.isotropic import Isotropic, IsotropicState
from hnet_lm.model.layers import RMSNorm
from hnet_lm.model.mixers import Mamba2
from hnet_lm.state import State


class Inputs(NamedTuple):
    """The program of a model, and the memory through which a step is asked for and answered."""

    program: Program
    rows: Int[Tensor, "num_stages_and_1 max_rows_and_1"]
    """Per stage, how many rows it has and their slots. Row 0 is to be written before a step."""
    ids: Int[Tensor, " max_rows"]
    """To be written before a step."""
    boundary_prob: Float[Tensor, "num_stages_and_1 max_rows"]
    """Of the rows of each stage; the innermost one has none."""
    logits: Float[Tensor, "max_rows v"]


def build_program(model: HNetLM, state: State, max_rows: int) -> Inputs:
    """ValueError where a weight or a state is not as the model's configuration says."""
    dtype = model.embedding.weight.dtype
    program = Program(dtype, max_rows, _max_width(model))
    num_stages = model.config.num_stages + 1
    row_memory = torch.zeros(num_stages, 1 + max_rows, dtype=torch.int64)
    probs = torch.zeros(2, num_stages, max_rows, dtype=dtype)
    rows = [Rows(of_stage[:1], of_stage[1:], *p) for of_stage, p in zip(row_memory, probs.unbind(1), strict=True)]
    ids = torch.zeros(max_rows, dtype=torch.int64)
    x = program.buffer(model.config.stages[0].d_model)
    logits = program.buffer(model.config.vocab_size)
    add_embedding(program, rows[0], model.embedding, ids, x)
    y = _add_network(program, rows, "network", model.network, state, x, ids)
    head, name = (model.embedding, "embedding") if model.lm_head is None else (model.lm_head, "lm_head")
    add_product(program, rows[0], f"{name}.weight", head, y, logits)
    return Inputs(program, row_memory, ids, probs[0], logits)


def _add_network(
    program: Program, rows: Sequence[Rows], name: str, network: nn.Module, state: State, x: Tensor, ids: Tensor
) -> Tensor:
    """Its output. `rows` are those of its stage and of those inside it; x is overwritten."""
    if isinstance(network, Isotropic):
        _add_isotropic(program, rows[0], name, network, state, x)
        return x
    assert isinstance(network, HNet)
    assert isinstance(state, HNetState)
    _add_isotropic(program, rows[0], f"{name}.encoder", network.encoder, state.encoder, x)
    routing: Any = network.routing
    if isinstance(routing, RoutingModule):
        routing_state: Any = state.routing
        add_routing(program, rows[0], f"{name}.routing", routing, routing_state, x)
    else:
        add_rule(program, rows[0], f"{name}.routing", routing, state.routing, ids)
    pad_vector = network.widen.pad_vector
    inner = program.buffer(network.d_model + (0 if pad_vector is None else len(pad_vector)))
    add_downsampling(program, rows[0], rows[1], name, network, x, inner)
    inner = _add_network(
        program, rows[1:], f"{name}.main_network", network.main_network, state.main_network, inner, ids
    )
    y = program.buffer(x.shape[1])
    add_upsampling(program, rows[0], rows[1], f"{name}.", network, state, inner, x, y)
    _add_isotropic(program, rows[0], f"{name}.decoder", network.decoder, state.decoder, y)
    return y


def _add_isotropic(program: Program, rows: Rows, name: str, stack: Isotropic, state: State, x: Tensor) -> None:
    """x becomes its output."""
    assert isinstance(state, IsotropicState)
    for i, (block, block_state) in enumerate(zip(stack.blocks, state.blocks, strict=True)):
        assert isinstance(block, Block)
        _add_block(program, rows, f"{name}.blocks.{i}", block, block_state, x)
    if isinstance(stack.norm, RMSNorm):
        add_norm(program, rows, f"{name}.norm", stack.norm, x, x)


def _add_block(program: Program, rows: Rows, name: str, block: Block, state: Any, x: Tensor) -> None:
    add_mixer: Any = add_mamba2 if isinstance(block.mixer, Mamba2) else add_attention
    if isinstance(block, PostNormBlock):
        result = add_mixer(program, rows, f"{name}.mixer", block.mixer, state, x, None)
        add_normed(program, rows, f"{name}.mixer_norm", block.mixer_norm, result, x)
        if block.mlp is not None and block.mlp_norm is not None:
            result = add_mlp(program, rows, f"{name}.mlp", block.mlp, x, None)
            add_normed(program, rows, f"{name}.mlp_norm", block.mlp_norm, result, x)
        return
    normed = program.scratch("normed", x.shape[1])
    add_norm(program, rows, f"{name}.mixer_norm", block.mixer_norm, x, normed)
    add_mixer(program, rows, f"{name}.mixer", block.mixer, state, normed, x)
    if block.mlp is not None and block.mlp_norm is not None:
        add_norm(program, rows, f"{name}.mlp_norm", block.mlp_norm, x, normed)
        add_mlp(program, rows, f"{name}.mlp", block.mlp, normed, x)


def _max_width(model: HNetLM) -> int:
    """The most numbers that any linear map reads or writes per position."""
    weights = [
        module.numbers if isinstance(module, RoundedLinear) else module.weight
        for module in model.modules()
        if isinstance(module, RoundedLinear | nn.Linear | nn.Embedding)
    ]
    return max(max(weight.shape) for weight in weights)
