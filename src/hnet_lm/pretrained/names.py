"""The tensors of a transformers checkpoint, and what of ours is made of each.

All families have one set of names. Projections that we keep in one matrix are stacked, in the order given here.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.weights import check_tensors

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
ATTENTION, MLP = "self_attn", "mlp"
BUFFERS = ("rotary_emb.inv_freq", "self_attn.masked_bias", "self_attn.bias")
"""Ends of names that older versions saved and that nobody needs: they follow from the config."""


class Part(NamedTuple):
    """One of the tensors that ours is stacked of."""

    name: str
    rows: int


def sources(config: HNetConfig) -> dict[str, list[Part]]:
    """Of each of our parameters, what it is stacked of; rows are 0 where it is one tensor alone."""
    (stage,) = config.stages
    attention, d_head = stage.attention, stage.head_dim
    widths = {"q": attention.num_heads * d_head, "k": attention.kv_heads * d_head, "v": attention.kv_heads * d_head}
    found = {"embedding.weight": [Part(EMBEDDING, 0)], "network.norm.weight": [Part("model.norm.weight", 0)]}
    if not config.tie_embeddings:
        found["lm_head.weight"] = [Part(HEAD, 0)]
    norms = ("post_attention_layernorm", "post_feedforward_layernorm")
    if not stage.norms_after:
        norms = ("input_layernorm", "post_attention_layernorm")
    num_layers = int(stage.layouts["main_network"].removeprefix("T"))
    for i in range(num_layers):
        ours, theirs = f"network.blocks.{i}", f"model.layers.{i}"
        for kind in ("weight", "bias") if attention.qkv_bias else ("weight",):
            found[f"{ours}.mixer.qkv_proj.{kind}"] = [
                Part(f"{theirs}.{ATTENTION}.{letter}_proj.{kind}", rows) for letter, rows in widths.items()
            ]
        found[f"{ours}.mixer.out_proj.weight"] = [Part(f"{theirs}.{ATTENTION}.o_proj.weight", 0)]
        if attention.qk_norm is not None:
            for letter in "qk":
                found[f"{ours}.mixer.{letter}_norm.weight"] = [Part(f"{theirs}.{ATTENTION}.{letter}_norm.weight", 0)]
        for norm, name in zip(("mixer_norm", "mlp_norm"), norms, strict=True):
            found[f"{ours}.{norm}.weight"] = [Part(f"{theirs}.{name}.weight", 0)]
        found[f"{ours}.mlp.fc1.weight"] = [
            Part(f"{theirs}.{MLP}.{name}_proj.weight", stage.d_intermediate) for name in ("up", "gate")
        ]
        found[f"{ours}.mlp.fc2.weight"] = [Part(f"{theirs}.{MLP}.down_proj.weight", 0)]
    return found


def our_tensors(model: HNetLM, tensors: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The parameters of the (meta) model by our names. Raises CheckpointError for tensors that are missing, misshapen
    or unknown, by their names."""
    parts_of = sources(model.config)
    wanted: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        for part in parts_of[name]:
            shape = (part.rows, *parameter.shape[1:]) if part.rows else tuple(parameter.shape)
            wanted[part.name] = nn.Parameter(torch.empty(shape, device="meta"))
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(BUFFERS)}
    check_tensors(wanted, given, {name: name for name in wanted}, source)
    return {
        name: given[parts[0].name] if len(parts) == 1 else torch.cat([given[part.name] for part in parts])
        for name, parts in parts_of.items()
    }
