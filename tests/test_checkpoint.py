"""Saved models: bit-exact there and back, whole or not there, and names on the hub."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import hnet_lm
from hnet_lm import checkpoint
from hnet_lm.checkpoint import FILES, load, save
from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError, UserError
from hnet_lm.model import HNetLM
from hnet_lm.named_configs import FOLDER

MODELS = FOLDER / "models"


@pytest.fixture
def model() -> HNetLM:
    return HNetLM(HNetConfig.load(MODELS / "tiny_2stage.json"))


def is_same(a: HNetLM, b: HNetLM) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )


def test_others_may_read_the_weights_as_they_may_read_the_config(model: HNetLM, tmp_path: Path):
    save(model, tmp_path / "model")
    modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("config", ["tiny_isotropic", "tiny_1stage", "tiny_2stage"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_round_trip_is_bit_exact(config: str, dtype: torch.dtype, tmp_path: Path):
    model = HNetLM(HNetConfig.load(MODELS / f"{config}.json")).to(dtype)
    hnet_lm.save(model, tmp_path / "saved")
    loaded = hnet_lm.load(tmp_path / "saved")
    assert loaded.config == model.config
    if dtype == torch.bfloat16:  # residual projections are held in float32, which loses nothing
        loaded.to(dtype)
    assert is_same(loaded, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved"]
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == sorted([*FILES, "README.md"])


def test_values_that_text_would_lose_survive(model: HNetLM, tmp_path: Path):
    with torch.no_grad():
        model.embedding.weight[0, :4] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    save(model, tmp_path / "saved")
    loaded = load(tmp_path / "saved").embedding.weight
    assert torch.equal(loaded.view(torch.int32), model.embedding.weight.view(torch.int32))


def test_type_can_be_chosen_on_loading(model: HNetLM, tmp_path: Path):
    save(model, tmp_path / "saved")
    loaded = load(tmp_path / "saved", dtype=torch.bfloat16)
    assert loaded.embedding.weight.dtype == torch.bfloat16
    assert {p.dtype for n, p in loaded.named_parameters() if "residual_proj" in n} == {torch.float32}


def test_a_saved_model_is_replaced(model: HNetLM, tmp_path: Path):
    save(HNetLM(HNetConfig.load(MODELS / "tiny_1stage.json")), tmp_path / "saved")
    save(model, tmp_path / "saved")
    assert is_same(load(tmp_path / "saved"), model)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_loaded_model_can_be_trained_and_saved_over_its_own_files(model: HNetLM, tmp_path: Path):
    save(model, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    with torch.no_grad():
        loaded.embedding.weight.add_(1)
    save(loaded, tmp_path / "saved")
    assert torch.equal(load(tmp_path / "saved").embedding.weight, model.embedding.weight + 1)


def test_a_directory_with_other_files_is_left_alone(model: HNetLM, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds other files"):
        save(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_link_is_not_replaced(model: HNetLM, tmp_path: Path):
    """Replaced would be the link, and the directory it leads to would keep the old weights."""
    save(HNetLM(HNetConfig.load(MODELS / "tiny_1stage.json")), tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    before = {path.name: path.read_bytes() for path in (tmp_path / "real").iterdir()}
    with pytest.raises(CheckpointError, match="link: is no directory that can be replaced"):
        save(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert {path.name: path.read_bytes() for path in (tmp_path / "real").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("failing", ["write_files", "flush", "_move_into_place"])
def test_a_save_that_fails_leaves_no_folders(
    model: HNetLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
):
    def disk_full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, failing, disk_full)
    with pytest.raises(CheckpointError, match=r"saved: cannot be written: No space left on device"):
        save(model, tmp_path / "a" / "b" / "saved")
    assert list(tmp_path.iterdir()) == []


def test_what_safetensors_cannot_write_is_said_in_the_systems_words(model: HNetLM, tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"saved: cannot be written: File too large$"):
            save(model, tmp_path / "saved")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["file/saved", "file"])
def test_a_file_in_the_way_of_a_directory(model: HNetLM, tmp_path: Path, where: str):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"file"):
        save(model, tmp_path / where)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("failing", ["save_file", "flush", "_move_into_place"])
def test_a_write_that_fails_changes_nothing(
    model: HNetLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
):
    first = HNetLM(HNetConfig.load(MODELS / "tiny_1stage.json"))
    save(first, tmp_path / "saved")

    def disk_full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, failing, disk_full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        save(model, tmp_path / "saved")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert is_same(load(tmp_path / "saved"), first)


def test_a_rename_that_fails_puts_the_replaced_model_back(
    model: HNetLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save(model, tmp_path / "saved")
    rename = Path.rename

    def fails_for_the_new_one(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save(HNetLM(HNetConfig.load(MODELS / "tiny_1stage.json")), tmp_path / "saved")
    assert is_same(load(tmp_path / "saved"), model)


def save_killed_after(num_lines: int, model: HNetLM, directory: Path) -> bool:
    """Save in a child process that is killed after so many different lines of the writer; false if it got through."""
    child = os.fork()
    if child == 0:
        seen: set[int] = set()

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code.co_filename == checkpoint.__file__ and event == "line":
                seen.add(frame.f_lineno)
                if len(seen) > num_lines:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        save(model, directory)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_a_kill_at_any_moment_leaves_a_whole_model(tmp_path: Path):
    """The old model or the new one stands there; for the one moment between two renames, where the old one is said."""
    old, new = (HNetLM(HNetConfig.load(MODELS / f"{name}.json")) for name in ("tiny_isotropic", "tiny_1stage"))
    found, moments = [], 0
    while True:
        directory = tmp_path / str(moments) / "saved"
        save(old, directory)
        killed = save_killed_after(moments, new, directory)
        try:
            loaded = load(directory)
        except CheckpointError as error:
            loaded = load(str(error).rpartition("the model that was there is ")[2])
            found.append("set aside")
        else:
            found.append("old" if loaded.config == old.config else "new")
        assert is_same(loaded, new if found[-1] == "new" else old)
        if not killed:
            break
        moments += 1
    assert moments > 20
    assert sorted(set(found), key=found.index) == ["old", "set aside", "new"]


def test_an_interrupted_replacement_is_pointed_at(model: HNetLM, tmp_path: Path):
    save(model, tmp_path / ".saved.0123abcd.replaced")
    with pytest.raises(CheckpointError, match=r"interrupted, and the model that was there is \S*\.replaced"):
        load(tmp_path / "saved")


def run_offline(cache: Path, code: str) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


LOAD_FROM_HUB = """
import hnet_lm
for name in ("hf:someone/tiny", "hf:someone/tiny@main", "hf:someone/other", "hf:not a name", "hf:someone/tiny@v9"):
    try:
        print(hnet_lm.load(name).config.num_stages)
    except hnet_lm.UserError as error:
        print(error)
"""


def test_a_hub_name_is_read_from_the_local_cache(model: HNetLM, tmp_path: Path):
    repository = tmp_path / "models--someone--tiny"
    revision = "0123456789abcdef0123456789abcdef01234567"
    save(model, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    found, pinned, other, unnamed, unknown = run_offline(tmp_path, LOAD_FROM_HUB).splitlines()
    assert found == pinned == "2"
    assert other == "hf:someone/other: not in the local cache, and the hub cannot be reached"
    assert unnamed.startswith("hf:not a name: not the name of a model")
    assert unknown.startswith("hf:someone/tiny@v9: ")


def test_without_the_extra_a_hub_name_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "hnet_lm.hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs the package huggingface_hub: pip install 'hnet-lm\[hf\]'"):
        load("hf:someone/tiny")


def test_moved_and_copied_directories_load(model: HNetLM, tmp_path: Path):
    save(model, tmp_path / "saved")
    shutil.copytree(tmp_path / "saved", tmp_path / "copy")
    (tmp_path / "saved").rename(tmp_path / "moved")
    assert is_same(load(tmp_path / "copy"), load(tmp_path / "moved"))
