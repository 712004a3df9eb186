"""The reference code's weights: names one to one, files of every kind, types, and what is refused."""

import argparse
import collections
import json
import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hnet_lm import official
from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError
from hnet_lm.official import load_official, parameter_names
from hnet_lm.weights import meta_model

ROOT = Path(__file__).parent
GOLDEN = ROOT / "goldens" / "two_stage"
CONFIG = json.loads((GOLDEN / "case.json").read_text())["config"]


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "weights.safetensors")


@pytest.mark.parametrize("case", sorted(path.name for path in (ROOT / "goldens").iterdir()))
def test_names_are_one_to_one_with_the_reference(case: str):
    folder = ROOT / "goldens" / case
    names = parameter_names(meta_model(HNetConfig.from_dict(json.loads((folder / "case.json").read_text())["config"])))
    assert sorted(names.values()) == sorted(load_file(folder / "weights.safetensors"))
    assert len(set(names.values())) == len(names)


def test_names_of_three_stages_are_all_different():
    config = HNetConfig.from_dict(
        CONFIG
        | {
            "arch_layout": ["m1T1", ["M1", ["t1", ["T1m1"], "t1"], "M1"], "m1"],
            "d_model": [64, 64, 128, 192],
            "d_intermediate": [64, 64, 0, 64],
            "attn_cfg": {"num_heads": [2] * 4, "rotary_emb_dim": [16] * 4, "window_size": [-1] * 4},
        }
    )
    names = parameter_names(meta_model(config))
    assert len(set(names.values())) == len(names)
    deepest = "backbone.main_network.main_network.main_network"
    assert names["network.main_network.main_network.widen.pad_vector"] == f"{deepest}.pad_dimension"
    assert (
        names["network.main_network.main_network.main_network.norm.weight"] == f"{deepest}.main_network.rmsnorm.weight"
    )
    assert names["network.encoder.blocks.0.mixer.norm.weight"] == "backbone.encoder.layers.0.mixer.norm.weight"


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pt of the old format", "state dict", "config file"])
def test_every_way_in_gives_the_same_model(kind: str, weights: dict[str, torch.Tensor], tmp_path: Path):
    config: dict | Path = CONFIG
    source: dict | Path = tmp_path / "weights.pt"
    match kind:
        case "safetensors":
            source = GOLDEN / "weights.safetensors"
        case "pt":
            torch.save(weights, source)
        case "pt of the old format":
            torch.save(weights, source, _use_new_zipfile_serialization=False)
        case "state dict":
            source = weights
        case "config file":
            config, source = tmp_path / "config.json", weights
            config.write_text(json.dumps(CONFIG))
    model = load_official(config, source)
    exported = official.state_dict(model)
    assert exported.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(exported[name], tensor), name
    assert all(parameter.requires_grad for parameter in model.parameters())


def renamed(change: Callable[[str], str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {change(name): tensor for name, tensor in weights.items()}


AS_FRAMEWORKS_SAVE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "torch.compile": renamed(lambda name: f"_orig_mod.{name}"),
    "DDP": renamed(lambda name: f"module.{name}"),
    "DDP of a compiled model": renamed(lambda name: f"module._orig_mod.{name}"),
    "compiled blocks": renamed(lambda name: name.replace("layers.0.", "layers.0._orig_mod.")),
    "FSDP": renamed(lambda name: "_fsdp_wrapped_module." + name.replace(".layers.", "._fsdp_wrapped_module.layers.")),
    "recomputed blocks": renamed(lambda name: name.replace("layers.0.", "layers.0._checkpoint_wrapped_module.")),
    "attribute of a module": renamed(lambda name: f"model.{name}"),
    "attribute of another name": renamed(lambda name: f"net.inner.{name}"),
    "wrapped": lambda weights: {"state_dict": weights},
    "a training loop's": lambda weights: {
        "model": weights,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}},
        "step": 7,
        "args": argparse.Namespace(out=Path("runs/x"), lr=0.1),
        "best_loss": np.float64(1.5),
    },
    "Lightning": lambda weights: {
        "epoch": 1,
        "state_dict": {f"model._orig_mod.{name}": tensor for name, tensor in weights.items()},
        "optimizer_states": [{}],
    },
    "wrapped twice": lambda weights: {"model": {"state_dict": {f"module.{k}": v for k, v in weights.items()}}},
}


@pytest.mark.parametrize("framework", AS_FRAMEWORKS_SAVE)
def test_weights_as_frameworks_save_them(framework: str, weights: dict[str, torch.Tensor], tmp_path: Path):
    torch.save(AS_FRAMEWORKS_SAVE[framework](weights), tmp_path / "last.ckpt")
    exported = official.state_dict(load_official(CONFIG, tmp_path / "last.ckpt"))
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in weights.items())


def test_which_weights_are_meant_is_not_guessed(weights: dict[str, torch.Tensor]):
    with pytest.raises(CheckpointError, match=r"more than one state dict \('state_dict', 'model'\)"):
        load_official(CONFIG, {"state_dict": weights, "model": weights})
    twice = weights | {f"module.{name}": tensor for name, tensor in weights.items()}
    with pytest.raises(CheckpointError, match=r"tensor 'module\.[\w.]+' of shape \(.*\) is no part of a model"):
        load_official(CONFIG, twice)
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    wrapped["_orig_mod.lm_head.weight"] = wrapped["module.lm_head.weight"]
    with pytest.raises(CheckpointError, match=r"'_orig_mod.lm_head.weight' and another tensor are both"):
        load_official(CONFIG, wrapped)
    more = {f"net.{name}": tensor for name, tensor in weights.items()} | {"loss.scale": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"tensor 'loss.scale' of shape \(1,\) is no part of a model"):
        load_official(CONFIG, more)


def test_the_kind_of_a_weights_file_is_told_by_its_bytes(weights: dict[str, torch.Tensor], tmp_path: Path):
    save_file(weights, tmp_path / "weights.pt")
    torch.save(weights, tmp_path / "weights")
    for name in ("weights.pt", "weights"):
        model = load_official(CONFIG, tmp_path / name)
        assert torch.equal(official.state_dict(model)["embeddings.weight"], weights["embeddings.weight"])
    (tmp_path / "weights").rename(tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"weights.safetensors: is a .pt file under another name; rename it"):
        load_official(CONFIG, tmp_path / "weights.safetensors")


def test_the_model_owns_its_weights(weights: dict[str, torch.Tensor]):
    model = load_official(CONFIG, weights)
    weights["embeddings.weight"].zero_()
    assert model.embedding.weight.abs().sum() > 0


def test_bfloat16_keeps_residual_projections_in_float32(weights: dict[str, torch.Tensor]):
    model = load_official(CONFIG, weights, dtype=torch.bfloat16)
    for name, parameter in model.named_parameters():
        expected = torch.float32 if "residual_proj" in name else torch.bfloat16
        assert parameter.dtype == expected, name
        assert torch.equal(parameter, weights[parameter_names(model)[name]].to(expected))


def test_bfloat16_weights_compute_what_float32_ones_do():
    """On the model without chunking, where no boundary can flip."""
    folder = ROOT / "goldens" / "isotropic_transformer"
    config = json.loads((folder / "case.json").read_text())["config"]
    narrow, wide = (
        load_official(config, folder / "weights.safetensors", dtype=dtype) for dtype in (torch.bfloat16, torch.float32)
    )
    ids = torch.randint(0, 254, (2, 30))
    with torch.no_grad():
        difference = narrow(ids).logits.float() - wide(ids).logits
    assert 0 < difference.abs().max() < 0.02 * wide(ids).logits.abs().max()


def test_a_chunking_model_in_bfloat16_continues_from_its_state(weights: dict[str, torch.Tensor]):
    model = load_official(CONFIG, weights, dtype=torch.bfloat16)
    ids = torch.randint(0, 254, (2, 30))
    with torch.no_grad():
        out = model(ids, state=model.new_state(2))
        for position in range(3):
            out = model(ids[:, position : position + 1], state=out.state)
    assert out.logits.dtype == torch.bfloat16
    assert out.logits.isfinite().all()


def test_tied_embeddings_with_and_without_the_head(weights: dict[str, torch.Tensor]):
    config = CONFIG | {"tie_embeddings": True}
    with pytest.raises(CheckpointError, match=r"'lm_head.weight' \(256, 32\) differs from 'embeddings.weight'"):
        load_official(config, weights)
    with_both = weights | {"lm_head.weight": weights["embeddings.weight"].clone()}
    without = {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"}
    models = [load_official(config, tensors) for tensors in (with_both, without)]
    assert all(torch.equal(*pair) for pair in zip(models[0].parameters(), models[1].parameters(), strict=True))
    exported = official.state_dict(models[0])
    assert exported.keys() == weights.keys()
    assert torch.equal(load_official(config, exported).head_weight, weights["embeddings.weight"])


def test_export_can_be_written_as_safetensors(weights: dict[str, torch.Tensor], tmp_path: Path):
    model = load_official(
        CONFIG | {"tie_embeddings": True}, {k: v for k, v in weights.items() if k != "lm_head.weight"}
    )
    save_file(official.state_dict(model), tmp_path / "weights.safetensors")
    load_official(model.config.to_dict(), tmp_path / "weights.safetensors")


def test_missing_extra_and_misshapen_tensors_are_named_with_shapes(weights: dict[str, torch.Tensor]):
    name = "backbone.residual_proj.bias"
    without = {k: v for k, v in weights.items() if k != name}
    with pytest.raises(CheckpointError, match=rf"tensor '{name}' of shape \(32,\) is missing"):
        load_official(CONFIG, without)
    with pytest.raises(CheckpointError, match=rf"'{name}' has shape \(31,\), the config wants \(32,\)"):
        load_official(CONFIG, weights | {name: torch.zeros(31)})
    with pytest.raises(CheckpointError, match=r"tensor 'backbone.more' of shape \(2, 3\) is no part of a model"):
        load_official(CONFIG, weights | {"backbone.more": torch.zeros(2, 3)})
    with pytest.raises(CheckpointError, match=r"must be a tensor of shape \(32,\), got list"):
        load_official(CONFIG, weights | {name: [0.0]})
    with pytest.raises(CheckpointError, match="and 74 more"):
        load_official(CONFIG, {})


class Payload:
    """A pickle that runs a command when it is loaded without restraint."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_that_wants_more_is_refused_and_not_run(weights: dict, tmp_path: Path, old_format: bool):
    path, marker = tmp_path / "weights.pt", tmp_path / "was run"
    torch.save(weights | {"x": Payload(marker)}, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(
        CheckpointError, match=r"refused: its pickle asks for the object \w+.mkdir, which could run code"
    ):
        load_official(CONFIG, path)
    path.write_bytes(pickle.dumps(weights | {"x": Payload(marker)}))
    with pytest.raises(CheckpointError):
        load_official(CONFIG, path)
    assert not marker.exists()


def test_settings_pickled_beside_the_weights_are_passed_over(
    weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A state dict whose metadata holds an OmegaConf list, as the reference's training leaves it, without OmegaConf."""
    module = types.ModuleType("omegaconf.listconfig")
    module.ListConfig = type("ListConfig", (), {"__module__": module.__name__})  # pyright: ignore  a module made here
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        patched.setitem(sys.modules, module.__name__, module)
        settings = module.ListConfig()
        settings.content = [1023, -1]
        content = collections.OrderedDict(weights)
        content.__dict__["_metadata"] = {"window_size": settings, "counts": collections.defaultdict(int)}
        torch.save(content, tmp_path / "weights.pt")
    model = load_official(CONFIG, tmp_path / "weights.pt")
    assert torch.equal(official.state_dict(model)["embeddings.weight"], weights["embeddings.weight"])
