"""Configurations: the reference schema there and back, the shipped ones, layouts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.layout import BLOCK_KINDS, parse_layout
from hnet_lm.named_configs import FOLDER

MODELS = FOLDER / "models"
PUBLISHED = (
    "hnet_1stage_L",
    "hnet_1stage_XL",
    "hnet_2stage_L",
    "hnet_2stage_XL",
    "hnet_2stage_XL_chinese",
    "hnet_2stage_XL_code",
)
TINY = ("tiny_isotropic", "tiny_1stage", "tiny_2stage")


@pytest.mark.parametrize("name", [*PUBLISHED, *TINY])
def test_shipped_config_is_written_back_unchanged(name: str):
    path = MODELS / f"{name}.json"
    assert HNetConfig.load(path).to_dict() == json.loads(path.read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_follow_one_scheme(name: str):
    """What holds for all of them: half of each head rotates, MLP width by stage width, BOS and EOS, windows."""
    config = HNetConfig.load(MODELS / f"{name}.json")
    assert (config.vocab_size, config.bos_id, config.eos_id, config.tie_embeddings) == (256, 254, 255, False)
    for stage in config.stages:
        assert stage.attention.rotary_emb_dim == stage.d_model // stage.attention.num_heads // 2
        has_mlp = any(block.has_mlp for layout in stage.layouts.values() for block in parse_layout(layout))
        assert stage.d_intermediate == ({1024: 2816, 1536: 4096, 2048: 5504}[stage.d_model] if has_mlp else 0)
    assert [stage.attention.window_size for stage in config.stages] == [1023] * config.num_stages + [-1]


@given(st.lists(st.tuples(st.sampled_from("mMtT"), st.integers(1, 30)), min_size=1, max_size=5))
def test_layout_is_its_letters_counted_out(runs: list[tuple[str, int]]):
    layout = "".join(f"{letter}{count}" for letter, count in runs)
    assert parse_layout(layout) == tuple(BLOCK_KINDS[letter] for letter, count in runs for _ in range(count))


@given(st.integers(0, 4), st.booleans(), st.data())
def test_any_number_of_stages_there_and_back(num_stages: int, tied: bool, data: st.DataObject):
    stacks = st.lists(st.sampled_from(["m1", "M2", "t1", "T3", "T1m4"]), min_size=1, max_size=2).map("".join)
    layout: list = [data.draw(stacks)]
    for _ in range(num_stages):
        layout = [data.draw(stacks), layout, data.draw(stacks)]
    widths = sorted(
        data.draw(st.lists(st.sampled_from([64, 128, 192]), min_size=num_stages + 1, max_size=num_stages + 1))
    )
    written = {
        "arch_layout": layout,
        "d_model": widths,
        "d_intermediate": [2 * width for width in widths],
        "vocab_size": data.draw(st.sampled_from([256, 258])),
        "ssm_cfg": {"d_state": 16, "d_conv": 4, "expand": 2, "chunk_size": 64},
        "attn_cfg": {
            "num_heads": [4] * len(widths),
            "rotary_emb_dim": [16] * len(widths),
            "window_size": [-1] * len(widths),
        },
        "tie_embeddings": tied,
    }
    config = HNetConfig.from_dict(written)
    assert config.num_stages == num_stages
    assert config.to_dict() == written
    assert HNetConfig.from_dict(config.to_dict()) == config


def test_what_is_left_out_has_the_reference_defaults():
    config = HNetConfig.from_dict(
        {
            "arch_layout": ["m2"],
            "d_model": [64],
            "d_intermediate": [0],
            "attn_cfg": {"num_heads": [1], "rotary_emb_dim": [0], "window_size": [-1]},
        }
    )
    assert config.to_dict()["ssm_cfg"] == {"d_state": 128, "d_conv": 4, "expand": 2, "chunk_size": 256}
    assert (config.vocab_size, config.tie_embeddings) == (256, False)


def test_unknown_key_names_the_nearest():
    data = json.loads((MODELS / "tiny_1stage.json").read_text())
    data["d_intermedate"] = data.pop("d_intermediate")
    with pytest.raises(ConfigError, match="unknown key 'd_intermedate'; did you mean 'd_intermediate'"):
        HNetConfig.from_dict(data)
