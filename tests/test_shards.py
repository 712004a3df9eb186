"""Weights in several files: read as one, by the reference's names and by ours; what is missing is one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hnet_lm import checkpoint, official
from hnet_lm.errors import CheckpointError

GOLDEN = Path(__file__).parent / "goldens" / "two_stage"
CONFIG = json.loads((GOLDEN / "case.json").read_text())["config"]
Tensors = dict[str, torch.Tensor]


def split(
    tensors: Tensors, folder: Path, stem: str = "model", suffix: str = ".safetensors", save: Callable = save_file
) -> Path:
    """Two files with every other tensor each, and their index."""
    files = [f"{stem}-0000{number}-of-00002{suffix}" for number in (1, 2)]
    names = sorted(tensors)
    for number, file in enumerate(files):
        save({name: tensors[name] for name in names[number::2]}, folder / file)
    index = folder / f"{stem}{suffix}.index.json"
    weight_map = {name: files[number % 2] for number, name in enumerate(names)}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


@pytest.fixture
def weights() -> Tensors:
    return load_file(GOLDEN / "weights.safetensors")


@pytest.mark.parametrize(
    ("stem", "suffix", "save"), [("model", ".safetensors", save_file), ("pytorch_model", ".bin", torch.save)]
)
def test_files_of_others(tmp_path: Path, weights: Tensors, stem: str, suffix: str, save: Callable) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    exported = official.state_dict(official.load_official(CONFIG, split(wrapped, tmp_path, stem, suffix, save)))
    assert exported.keys() == weights.keys()
    assert all(exported[name].equal(tensor) for name, tensor in weights.items())


def test_a_saved_directory(tmp_path: Path, weights: Tensors) -> None:
    model = official.load_official(CONFIG, weights)
    checkpoint.save(model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    split(model.state_dict(), tmp_path / "m")
    loaded = checkpoint.load(tmp_path / "m").state_dict()
    assert all(loaded[name].equal(tensor) for name, tensor in model.state_dict().items())
    (tmp_path / "m" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors.index.json: 1 of the 2 files .* not beside it"):
        checkpoint.load(tmp_path / "m")


def test_the_whole_file_counts_where_both_are_there(tmp_path: Path, weights: Tensors) -> None:
    model = official.load_official(CONFIG, weights)
    checkpoint.save(model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").write_text("{}")
    assert checkpoint.load(tmp_path / "m").state_dict().keys() == model.state_dict().keys()


MAPS = {
    "no JSON": ("{", "not an index of weights: not JSON"),
    "a number of many digits": ("[" + "1" * 5000 + "]", "not an index of weights: not JSON"),
    "nested": ("[" * 100_000, "not an index of weights: not JSON"),
    "a list": ("[]", "it has no 'weight_map'"),
    "no map": ('{"metadata": {}}', "it has no 'weight_map'"),
    "an empty map": ('{"weight_map": {}}', "it has no 'weight_map'"),
    "a map to numbers": ('{"weight_map": {"a": 1}}', "it has no 'weight_map'"),
    "a file elsewhere": ('{"weight_map": {"a": "../b.safetensors"}}', "names the file '../b.safetensors'"),
    "a file by its whole path": ('{"weight_map": {"a": "/b.safetensors"}}', "names the file '/b.safetensors'"),
    "the folder itself": ('{"weight_map": {"a": ".."}}', "names the file '..'"),
    "a file that is not there": ('{"weight_map": {"a": "b", "c": "d"}}', "2 of the 2 files .* the first is b; fetch"),
}


@pytest.mark.parametrize("kind", MAPS)
def test_an_index_that_is_none(tmp_path: Path, kind: str) -> None:
    content, message = MAPS[kind]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(CheckpointError, match=f"model.safetensors.index.json: .*{message}") as raised:
        official.load_official(CONFIG, index)
    assert "\n" not in str(raised.value)


def test_a_tensor_that_is_not_where_the_index_says(tmp_path: Path, weights: Tensors) -> None:
    index = split(weights, tmp_path)
    content = json.loads(index.read_text())
    content["weight_map"]["more.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002.safetensors: has no tensor 'more.weight', which"):
        official.load_official(CONFIG, index)
