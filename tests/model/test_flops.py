"""FLOPs a byte: the paper's totals, and each formula against a count by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.model import HNetLM
from hnet_lm.model.flops import forward_flops_per_byte, stage_lengths
from hnet_lm.named_configs import FOLDER
from hnet_lm.ops import use_backend

MODELS = FOLDER / "models"


def gigaflops(name: str, *bytes_per_chunk: float) -> float:
    config = HNetConfig.load(MODELS / f"{name}.json")
    return sum(forward_flops_per_byte(config, bytes_per_chunk, 8192).values()) / 1e9


@pytest.mark.parametrize(
    ("name", "bytes_per_chunk", "paper"), [("hnet_1stage_L", 4.8, 0.43), ("hnet_1stage_XL", 4.7, 0.72)]
)
def test_one_stage_is_the_papers_table_2_to_its_last_digit(name: str, bytes_per_chunk: float, paper: float):
    assert gigaflops(name, bytes_per_chunk) == pytest.approx(paper, abs=0.005)


@pytest.mark.parametrize(
    ("name", "bytes_per_chunk", "paper"), [("hnet_2stage_L", 7.0, 0.43), ("hnet_2stage_XL", 6.9, 0.69)]
)
def test_two_stages_are_within_3_percent_of_the_papers_table_2(name: str, bytes_per_chunk: float, paper: float):
    """It does not say how long the outer chunks are: between the square root of the total and the target of 3."""
    totals = [gigaflops(name, outer, bytes_per_chunk) for outer in (math.sqrt(bytes_per_chunk), 3.0)]
    assert totals == pytest.approx([paper, paper], rel=0.03)
    assert min(totals) - 0.005 <= paper <= max(totals) + 0.005


def test_one_attention_block_by_hand():
    config = HNetConfig.from_dict(
        {
            "arch_layout": ["T1"],
            "d_model": [64],
            "d_intermediate": [100],
            "attn_cfg": {"num_heads": [4], "rotary_emb_dim": [0], "window_size": [-1]},
        }
    )
    L, d, f, h = 50, 64, 100, 4
    qkv, output = 2 * 3 * L * d * d, 2 * L * d * d
    logits, softmax, values = 2 * L * L * d, 3 * h * L * L, 2 * L * L * d
    mlp = 2 * L * 3 * d * f + 5 * L * d
    flops = forward_flops_per_byte(config, [], L)
    assert flops[0, "main_network"] * L == pytest.approx(qkv + output + logits + softmax + values + mlp)
    assert flops[0, "embedding"] == flops[0, "head"] == 2 * 256 * d

    windowed = replace(config.stages[0], attention=replace(config.stages[0].attention, window_size=9))
    narrow = forward_flops_per_byte(replace(config, stages=(windowed,)), [], L)
    assert flops[0, "main_network"] - narrow[0, "main_network"] == pytest.approx((L - 10) * (4 * d + 3 * h))


def test_one_mamba2_block_by_hand():
    config = HNetConfig.from_dict(
        {
            "arch_layout": ["m1"],
            "d_model": [64],
            "d_intermediate": [0],
            "ssm_cfg": {"d_state": 16, "d_conv": 4, "expand": 2},
            "attn_cfg": {"num_heads": [1], "rotary_emb_dim": [0], "window_size": [-1]},
        }
    )
    d, inner, n, heads = 64, 128, 16, 2
    projections = 2 * d * 2 * inner + 2 * d * (2 * n + heads) + 2 * inner * d
    by_hand = projections + 2 * 3 * inner * n + 2 * (inner + 2 * n) * 4 + 5 * inner
    assert forward_flops_per_byte(config, [], 50)[0, "main_network"] == pytest.approx(by_hand)


def test_inner_stages_count_the_chunks_and_routing_three_matrices():
    config = HNetConfig.load(MODELS / "tiny_2stage.json")
    flops = forward_flops_per_byte(config, [2.0, 8.0], 8192)
    assert stage_lengths(config, [2.0, 8.0], 8192) == [8192, 4096, 1024]
    assert flops[0, "routing"] == 2 * flops[0, "residual_proj"] == 2 * 2 * 32**2
    assert flops[1, "routing"] == 2 * 2 * 64**2 / 2
    finer = forward_flops_per_byte(config, [2.0, 4.0], 8192)
    assert finer[2, "main_network"] > 2 * flops[2, "main_network"]  # twice the chunks, each seeing twice as many
    assert {key: finer[key] for key in finer if key[0] < 2} == {key: flops[key] for key in flops if key[0] < 2}


def test_matrix_products_are_those_torch_counts():
    """What torch's counter sees of a real pass without attention's square: linear maps and the head."""
    config = HNetConfig.from_dict(
        {
            "arch_layout": ["T2"],
            "d_model": [64],
            "d_intermediate": [96],
            "attn_cfg": {"num_heads": [4], "rotary_emb_dim": [0], "window_size": [-1]},
        }
    )
    length = 40
    with use_backend("eager"), FlopCounterMode(display=False) as counter, torch.no_grad():
        HNetLM(config)(torch.zeros(1, length, dtype=torch.int64))
    counted = counter.get_flop_counts()["Global"]
    linear_maps = sum(count for op, count in counted.items() if "mm" in str(op))
    ours = forward_flops_per_byte(config, [], length)
    elementwise_and_square = 2 * (5 * 64 + 3 * 4 * length + 4 * length * 64)
    assert linear_maps == pytest.approx((ours[0, "main_network"] - elementwise_and_square + ours[0, "head"]) * length)


@pytest.mark.parametrize(
    ("bytes_per_chunk", "length", "says"),
    [
        ([3.0], 8192, "chunks 2 times, but 1 values"),
        ([4.0, 3.0], 8192, "must be 1 or more and not shrink inwards"),
        ([0.5, 3.0], 8192, "must be 1 or more"),
        ([2.0, float("nan")], 8192, "bytes"),
        ([2.0, 8.0], 4, "less than one chunk"),
    ],
)
def test_chunks_that_cannot_be(bytes_per_chunk: list[float], length: int, says: str):
    with pytest.raises(ConfigError, match=says):
        stage_lengths(HNetConfig.load(MODELS / "tiny_2stage.json"), bytes_per_chunk, length)
