"""Models of every family say what transformers says: whole, packed, decoded; what does not fit is one clear line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_transformers import FAMILIES, NUM_TOKENS, SIZES, save_small

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.errors import ConfigError, UserError
from hnet_lm.generation.stepper import CpuStepper, PlainStepper, Stepper
from hnet_lm.official import state_dict
from hnet_lm.sequences import Sequences

ATOL = 1e-4
LENGTHS = [40, 1, 17]


def decoded(stepper: Stepper, sequences: list[torch.Tensor]) -> torch.Tensor:
    """Logits of all positions, read one by one, of all sequences beside each other."""
    streams = [stepper.admit() for _ in sequences]
    rows: list[list[torch.Tensor]] = [[] for _ in sequences]
    for t in range(max(map(len, sequences))):
        live = [i for i, ids in enumerate(sequences) if t < len(ids)]
        out = stepper.step([streams[i] for i in live], [int(sequences[i][t]) for i in live])
        for i, logits in zip(live, out.logits, strict=True):
            rows[i].append(logits)
    return torch.cat([torch.stack(of_one) for of_one in rows])


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_logits_are_those_of_transformers(name: str, tmp_path: Path):
    theirs = save_small(name, tmp_path / "theirs")
    hnet_lm.import_pretrained(tmp_path / "theirs", tmp_path / "ours")
    model = hnet_lm.load(tmp_path / "ours")
    sequences = list(torch.randint(NUM_TOKENS, (sum(LENGTHS),)).split(LENGTHS))
    expected = torch.cat([theirs(ids[None]).logits[0] for ids in sequences])
    whole = torch.cat([model(ids[None]).logits[0] for ids in sequences])
    packed = model(torch.cat(sequences), Sequences.from_lengths(LENGTHS)).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(whole, expected, rtol=0, atol=ATOL)
    torch.testing.assert_close(packed, expected, rtol=0, atol=ATOL)
    for kind in (PlainStepper, CpuStepper):
        torch.testing.assert_close(decoded(kind(model, 3), sequences), expected, rtol=0, atol=ATOL)


def test_shards_the_special_ids_and_the_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_small("qwen3", tmp_path / "theirs", max_shard_size="20KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    assert main(["import", str(tmp_path / "theirs"), str(tmp_path / "ours"), "--precision", "bfloat16"]) == 0
    assert "parameters in bfloat16" in capsys.readouterr().out
    model = hnet_lm.load(tmp_path / "ours")
    assert model.embedding.weight.dtype == torch.bfloat16
    assert (model.config.bos_id, model.config.eos_id) == (NUM_TOKENS, NUM_TOKENS + 1)
    pairs = hnet_lm.load_tokenizer(tmp_path / "ours")
    assert b"".join(pairs.token_bytes[i] for i in pairs.encode(b"the cat").ids) == b"the cat"
    with pytest.raises(ConfigError, match=r"cannot hold this model: it has no attn_cfg.num_kv_heads, .*norm_eps"):
        state_dict(model)


def change_config(**values: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "config.json"
        table = json.loads(path.read_text()) | values
        path.write_text(json.dumps({key: value for key, value in table.items() if value != "gone"}))

    return change


def change_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})

    return rewrite


def remove(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
BROKEN = {
    "no config": (remove("config.json"), "config.json"),
    "no weights": (remove("model.safetensors"), "neither model.safetensors nor model.safetensors.index.json"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer.json: no such file"),
    "another family": (change_config(model_type="gpt2"), "config.json: model_type: 'gpt2' cannot be imported"),
    "a missing key": (change_config(hidden_size="gone"), "config.json: 'hidden_size' is missing"),
    "an unknown scaling": (
        change_config(rope_parameters={"rope_type": "longrope", "rope_theta": 1e4}),
        "rotary_scaling.rope_type: must be one of linear, llama3, yarn, got 'longrope'",
    ),
    "an unknown activation": (change_config(hidden_act="gelu"), "hidden_act: only 'silu' can be imported"),
    "biases everywhere": (change_config(attention_bias=True), "attention_bias: only False can be imported"),
    "no end": (change_config(eos_token_id=None), "eos_token_id: must be the id that ends a text"),
    "a small vocabulary": (change_config(vocab_size=260, bos_token_id=0, eos_token_id=1), "is not the model's: it has"),
    "a missing tensor": (
        change_weights(lambda tensors: tensors.pop(Q_PROJ)),
        rf"tensor '{Q_PROJ}' of shape \(48, 32\) is missing",
    ),
    "a misshapen tensor": (
        change_weights(lambda tensors: tensors.update({Q_PROJ: torch.zeros(32, 32)})),
        rf"tensor '{Q_PROJ}' has shape \(32, 32\), the config wants \(48, 32\)",
    ),
    "an unknown tensor": (
        change_weights(lambda tensors: tensors.update({"model.extra.weight": torch.zeros(3)})),
        r"tensor 'model.extra.weight' of shape \(3,\) is no part of a model of this config",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_does_not_fit_is_one_line(fault: str, tmp_path: Path):
    spoil, expected = BROKEN[fault]
    save_small("llama", tmp_path / "theirs")
    spoil(tmp_path / "theirs")
    with pytest.raises(UserError, match=expected) as caught:
        hnet_lm.import_pretrained(tmp_path / "theirs", tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_keys_that_older_versions_save_are_read(tmp_path: Path):
    """`rope_theta` and `rope_scaling` beside each other, the kind as `type`, and a buffer among the weights."""
    save_small("llama", tmp_path / "theirs")
    before = hnet_lm.import_pretrained(tmp_path / "theirs", tmp_path / "ours")
    kind, *_ = FAMILIES["llama"][1]["rope_parameters"].items()
    assert kind == ("rope_type", "llama3")
    scaling = dict(FAMILIES["llama"][1]["rope_parameters"])
    theta = scaling.pop("rope_theta")
    change_config(rope_parameters="gone", rope_theta=theta, rope_scaling=scaling)(tmp_path / "theirs")
    inv_freq = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(6)}
    change_weights(lambda tensors: tensors.update(inv_freq))(tmp_path / "theirs")
    again = hnet_lm.import_pretrained(tmp_path / "theirs", tmp_path / "ours")
    assert again.config == before.config
    assert again.config.vocab_size == SIZES["vocab_size"]
