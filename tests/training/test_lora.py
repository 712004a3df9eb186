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
from hnet_lm.training.footprint import footprint
from hnet_lm.training.loop import train
from token_models import save_token_model

peft: Any = pytest.importorskip("peft")

from hnet_lm.lora import SavedAdapter  # noqa: E402  where peft is installed

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
    train(run_of(folder, base, logging={"every": 1, "report": True}))
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
    num_parameters = sum(parameter.numel() for parameter in hnet_lm.load(base).parameters())
    assert f"| parameters | {num_parameters:,} |" in (finished / "README.md").read_text()
    assert f"| parameters | {num_parameters:,} |" in (finished / "report.md").read_text()
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


@pytest.mark.parametrize("target", ["q_projection", "in_pro", "embedding", "mixer"])
def test_a_target_that_is_no_linear_map(base: Path, tmp_path: Path, target: str) -> None:
    """Also beside others that are."""
    with pytest.raises(ConfigError, match=rf"lora\.targets: '{target}' names no linear map .* there are fc1, "):
        train(run_of(tmp_path, base, lora={"rank": 2, "targets": ["fc1", target]}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("lora", [{"rank": 4, "alpha": 64.0}, {"rank": 2, "alpha": 8.0}, {"rank": 0, "alpha": 8.0}])
def test_an_adapter_does_not_change_within_a_run(base: Path, tmp_path: Path, lora: dict[str, Any]) -> None:
    train(run_of(tmp_path, base, run={"num_steps": 2}, schedule={"decay": 0.0}))
    with pytest.raises(ConfigError, match=r"lora\.(rank|alpha): .* which cannot change within a run"):
        train(run_of(tmp_path, base, run={"num_steps": 4}, schedule={"decay": 0.0}, lora=lora), allow_changes=True)


def test_a_folder_named_adapter_is_not_written_into(base: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    with pytest.raises(TrainingError, match="holds adapter, and no checkpoints"):
        train(run_of(tmp_path, base))


def test_an_adapter_takes_less_memory(base: Path, tmp_path: Path) -> None:
    config = make_model().config
    whole, adapted = (
        footprint(run_of(tmp_path, base, lora={"rank": rank}), config, [3.0], torch.float32, 1) for rank in (0, 4)
    )
    assert adapted.gradients < whole.gradients / 2
    assert adapted.moments < whole.moments / 2
    assert adapted.weights > whole.weights


# Adapters of others


def with_adapter(model: Any, **options: Any) -> Any:
    torch.manual_seed(1)
    given = {"target_modules": ["in_proj", "fc1"], "init_lora_weights": False, **options}
    return peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=4, **given))


def save_adapter(model: Any, folder: Path, base: Path, **values: Any) -> None:
    model.save_pretrained(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(base)} | values))


def test_an_adapter_that_transformers_trained(base: Path, tmp_path: Path) -> None:
    export(hnet_lm.load(base), tmp_path / "exported")
    adapted = with_adapter(HNetLMForCausalLM.from_pretrained(tmp_path / "exported"))
    adapted.save_pretrained(tmp_path / "adapter")
    main(["convert", str(tmp_path / "adapter"), str(tmp_path / "merged")])
    merged = adapted.merge_and_unload().model
    torch.testing.assert_close(logits_of(hnet_lm.load(tmp_path / "merged")), logits_of(merged), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base_model_name_or_path": None}, "base_model_name_or_path does not say which model it was trained for"),
        ({"base_model_name_or_path": 3}, "base_model_name_or_path does not say which model it was trained for"),
        ({"base_model_name_or_path": "gone"}, "base_model_name_or_path: gone: no such directory"),
        ({"peft_type": "IA3", "feedforward_modules": []}, "is not LoRA but .*IA3"),
        ({"peft_type": None}, "adapter_config.json: is not "),
        ({"r": 3}, "the config wants"),
        ({"r": "a"}, "does not go with"),
        ({"target_modules": ["in_proj"]}, "is no part of a model of this config"),
        ({"target_modules": ".*nope"}, "does not go with"),
        ({"use_dora": True}, "use_dora: only products of two matrices"),
        ({"bias": "all"}, "bias: only products of two matrices"),
    ],
)
def test_broken_adapters(base: Path, tmp_path: Path, values: dict[str, Any], message: str) -> None:
    save_adapter(with_adapter(hnet_lm.load(base)), tmp_path / "adapter", base, **values)
    with pytest.raises(CheckpointError, match=message) as caught:
        SavedAdapter(tmp_path / "adapter").merged()
    assert "\n" not in str(caught.value)


def test_biases_of_an_adapter_are_refused(base: Path, tmp_path: Path) -> None:
    """They are in the file under names like the others, and not in the product."""
    save_adapter(with_adapter(hnet_lm.load(base), lora_bias=True), tmp_path / "adapter", base)
    with pytest.raises(CheckpointError, match="lora_bias: only products of two matrices"):
        SavedAdapter(tmp_path / "adapter").merged()


def test_an_adapter_is_not_added_to_its_model_in_place(base: Path, tmp_path: Path, capsys: Any) -> None:
    ours = tmp_path / "base"
    shutil.copytree(base, ours)
    save_adapter(with_adapter(hnet_lm.load(ours)), tmp_path / "adapter", ours)
    assert main(["convert", str(tmp_path / "adapter"), str(ours)]) == 2
    assert "which it is not added to in place" in capsys.readouterr().err
    assert (ours / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_the_tokenizer_of_a_model_of_tokens_comes_along(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_token_model(base)
    save_adapter(with_adapter(hnet_lm.load(base), target_modules=["fc1"]), tmp_path / "adapter", base)
    assert main(["convert", str(tmp_path / "adapter"), str(tmp_path / "merged")]) == 0
    assert (tmp_path / "merged/tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert hnet_lm.load(tmp_path / "merged").config.reads_tokens


def test_the_base_is_found_from_any_folder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base.parent)
    train(run_of(tmp_path, Path("model"), run={"num_steps": 2}, schedule={"decay": 0.0}))
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "run/adapter", "merged"]) == 0


@pytest.mark.parametrize("source", ["nowhere", "."])
def test_a_folder_that_is_no_adapter(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", source, "merged"]) == 2
    assert capsys.readouterr().err.startswith(f"hnet-lm: error: {source}: ")


def test_a_folder_of_an_adapter_is_named_as_one(finished: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is an adapter; `hnet-lm convert "):
        hnet_lm.load(finished / "adapter")
