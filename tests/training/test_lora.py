"""LoRA in a run: thin matrices alone are trained, saved as peft does, and added to the weights that are published."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_runs import make_model, run_config, updates

import hnet_lm
from hnet_lm import checkpoint
from hnet_lm.cli.main import main
from hnet_lm.errors import CheckpointError, ConfigError
from hnet_lm.hf import HNetLMForCausalLM
from hnet_lm.hf.export import export
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.loop import train

peft: Any = pytest.importorskip("peft")

TARGETS = ("in_proj", "qkv_proj", "out_proj", "fc1", "fc2")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    checkpoint.save(make_model(), folder)
    return folder


def run_of(folder: Path, base: Path, **tables: dict[str, Any]) -> Any:
    given = {"model": {"config": "", "init_from": str(base)}, "lora": {"rank": 4, "alpha": 8.0}}
    return run_config(folder, optimizer={"lr": 1e-2}, **{**given, **tables})


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(run_of(folder, base))
    return folder / "run"


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return model(torch.arange(40) % 26 + 97).logits


def test_only_the_linear_maps_that_are_named_change(base: Path, finished: Path) -> None:
    before, after = checkpoint.read_weights(base), checkpoint.read_weights(finished)
    assert before.keys() == after.keys()
    for name, weight in after.items():
        assert weight.equal(before[name]) != (name.split(".")[-2] in TARGETS), name
    losses = [update["loss"] for update in updates(finished)]
    assert losses[-1] < losses[0]


def test_what_is_published_is_the_base_with_its_adapter(base: Path, finished: Path) -> None:
    """The folder itself, peft's own loading, and `convert`."""
    published = logits_of(hnet_lm.load(finished))
    assert (published - logits_of(hnet_lm.load(base))).abs().max() > 1e-2
    with_adapter = peft.PeftModel.from_pretrained(hnet_lm.load(base), finished / "adapter")
    torch.testing.assert_close(logits_of(with_adapter), published, rtol=0, atol=1e-5)


def test_an_adapter_is_converted(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["convert", str(finished / "adapter"), str(tmp_path / "merged")])
    assert "parameters in float32" in capsys.readouterr().out
    torch.testing.assert_close(
        logits_of(hnet_lm.load(tmp_path / "merged")), logits_of(hnet_lm.load(finished)), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("background", [False, True])
def test_a_run_that_was_stopped_goes_on_exactly(base: Path, finished: Path, tmp_path: Path, background: bool) -> None:
    saving = {"every": 2, "keep": 2, "before_decay": False, "background": background}
    train(run_of(tmp_path, base, checkpoints=saving))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_00000006")
    train(run_of(tmp_path, base, checkpoints=saving))
    ours, theirs = checkpoint.read_weights(tmp_path / "run"), checkpoint.read_weights(finished)
    assert all(weight.equal(theirs[name]) for name, weight in ours.items())
    file = Path("adapter", "adapter_model.safetensors")
    assert (tmp_path / "run" / file).read_bytes() == (finished / file).read_bytes()


def test_another_base_is_noticed(base: Path, tmp_path: Path) -> None:
    ours = tmp_path / "base"
    shutil.copytree(base, ours)
    train(run_of(tmp_path, ours, run={"num_steps": 2}, schedule={"decay": 0.0}))
    shutil.rmtree(ours)
    checkpoint.save(make_model(seed=1), ours)
    with pytest.raises(TrainingError, match=r"the model of model\.init_from was another one"):
        train(run_of(tmp_path, ours, run={"num_steps": 4}, schedule={"decay": 0.0}), allow_changes=True)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"model": {}}, r"lora: adapts a saved model; give model\.init_from"),
        ({"model": {"config": "", "init_from": "base", "freeze": ["stage:0"]}}, r"leave out model\.freeze"),
        ({"distributed": {"strategy": "fsdp"}}, r"take distributed\.strategy 'ddp'"),
        ({"lora": {"rank": -1}}, r"lora\.rank"),
        ({"lora": {"rank": 2, "alpha": 0.0}}, r"lora\.alpha"),
        ({"lora": {"rank": 2, "targets": []}}, r"lora\.targets: must name"),
    ],
)
def test_what_does_not_go_with_it(base: Path, tmp_path: Path, tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(tmp_path, base, **tables)


@pytest.mark.parametrize("optimizer", [{"name": "muon"}, {"average": 0.9}])
def test_optimizers_that_do_not_go_with_it(base: Path, tmp_path: Path, optimizer: dict[str, Any]) -> None:
    model = {"config": "", "init_from": str(base)}
    with pytest.raises(ConfigError, match=r"^lora: "):
        run_config(tmp_path, model=model, lora={"rank": 2}, optimizer=optimizer)


def test_a_linear_map_that_is_not_there(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets: the model has no linear map named q_projection"):
        train(run_of(tmp_path, base, lora={"rank": 2, "targets": ["q_projection"]}))
    assert not (tmp_path / "run").exists()


# Adapters of others


def with_adapter(model: Any) -> Any:
    torch.manual_seed(1)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["in_proj", "fc1"], init_lora_weights=False)
    return peft.get_peft_model(model, config)


def test_an_adapter_that_transformers_trained(base: Path, tmp_path: Path) -> None:
    export(hnet_lm.load(base), tmp_path / "exported")
    adapted = with_adapter(HNetLMForCausalLM.from_pretrained(tmp_path / "exported"))
    adapted.save_pretrained(tmp_path / "adapter")
    main(["convert", str(tmp_path / "adapter"), str(tmp_path / "merged")])
    merged = adapted.merge_and_unload().model
    torch.testing.assert_close(logits_of(hnet_lm.load(tmp_path / "merged")), logits_of(merged), rtol=0, atol=1e-5)


def changed(folder: Path, **values: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base_model_name_or_path": None}, "does not say which model it was trained for"),
        ({"peft_type": "IA3", "feedforward_modules": []}, "only LoRA can be added to the weights"),
        ({"r": 3}, "the config wants"),
        ({"target_modules": ["in_proj"]}, "is no part of a model of this config"),
    ],
)
def test_broken_adapters(base: Path, tmp_path: Path, values: dict[str, Any], message: str) -> None:
    lora = pytest.importorskip("hnet_lm.lora")
    with_adapter(hnet_lm.load(base)).save_pretrained(tmp_path)
    changed(tmp_path, **{"base_model_name_or_path": str(base), **values})
    with pytest.raises(CheckpointError, match=message):
        lora.load_merged(tmp_path)


def test_a_folder_of_an_adapter_is_named_as_one(finished: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is an adapter; `hnet-lm convert "):
        hnet_lm.load(finished / "adapter")
