"""Malformed configurations and checkpoints: each one clear line that names the file, and nothing written."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hnet_lm.checkpoint import load, save
from hnet_lm.cli.main import main
from hnet_lm.config import HNetConfig
from hnet_lm.errors import UserError
from hnet_lm.model import HNetLM
from hnet_lm.named_configs import FOLDER
from hnet_lm.official import load_official

MODELS = FOLDER / "models"
GOLDEN = Path(__file__).parent / "goldens" / "one_stage"


def changed(**changes: Any) -> Callable[[dict], Any]:
    """A config with some keys set; `attn_cfg__num_heads` sets a key of attn_cfg."""

    def change(config: dict) -> dict:
        for name, value in changes.items():
            table, _, key = name.rpartition("__")
            (config[table] if table else config)[key] = value
        return config

    return change


def without(key: str) -> Callable[[dict], Any]:
    return lambda config: {name: value for name, value in config.items() if name != key}


# How tiny_1stage's config is spoilt, and what the error must say.
CONFIGS: dict[str, tuple[Callable[[dict], Any], str]] = {
    "a list": (lambda config: [config], "must be an object"),
    "null": (lambda config: None, "must be an object"),
    "empty": (lambda config: {}, "'arch_layout' is missing"),
    "no widths": (without("d_model"), "'d_model' is missing"),
    "no attention": (without("attn_cfg"), "'attn_cfg' is missing"),
    "unknown key": (changed(d_modle=[64, 96]), "unknown key 'd_modle'; did you mean 'd_model'"),
    "unknown attention key": (changed(attn_cfg__heads=[2, 2]), "attn_cfg: unknown key 'heads'"),
    "unknown ssm key": (changed(ssm_cfg__dstate=16), "ssm_cfg: unknown key 'dstate'; did you mean 'd_state'"),
    "attention is a list": (changed(attn_cfg=[2, 2]), "attn_cfg: must be an object"),
    "ssm is null": (changed(ssm_cfg=None), "ssm_cfg: must be an object"),
    "no window": (lambda config: changed(attn_cfg=without("window_size")(config["attn_cfg"]))(config), "is missing"),
    "layout is a string": (changed(arch_layout="m2"), "arch_layout"),
    "layout is empty": (changed(arch_layout=[]), "arch_layout"),
    "layout lacks a decoder": (changed(arch_layout=["m2", ["T2"]]), "arch_layout"),
    "layout is too long": (changed(arch_layout=["m2", ["T2"], "m2", "m2"]), "arch_layout"),
    "layout holds numbers": (changed(arch_layout=["m2", [2], "m2"]), "arch_layout"),
    "inner layout is not a list": (changed(arch_layout=["m2", "T2", "m2"]), "arch_layout"),
    "unknown letter": (changed(arch_layout=["m2", ["X2"], "m2"]), "'X2' is not letters of m, M, t, T"),
    "letter without a count": (changed(arch_layout=["m", ["T2"], "m2"]), "'m' is not letters"),
    "count of zero": (changed(arch_layout=["m0", ["T2"], "m2"]), "'m0' is not letters"),
    "count beyond reason": (changed(arch_layout=["m2", ["T99999999"], "m2"]), "a count of 1 to 9999"),
    "empty stack": (changed(arch_layout=["", ["T2"], "m2"]), "'' is not letters"),
    "a width too few": (changed(d_model=[64]), "arch_layout has 2 stages, but 1 entries are given"),
    "a width too many": (changed(d_model=[64, 96, 96]), "arch_layout has 2 stages, but 3 entries are given"),
    "widths are one number": (changed(d_model=64), "d_model: must be a list with one entry per stage"),
    "widths shrink": (changed(d_model=[128, 96]), "d_model: widths must not shrink inwards, got [128, 96]"),
    "width of zero": (changed(d_model=[0, 96]), "d_model: must be a whole number"),
    "width is text": (changed(d_model=["64", 96]), "d_model: must be a whole number"),
    "width is a fraction": (changed(d_model=[64.0, 96]), "d_model: must be a whole number"),
    "width is true": (changed(d_model=[True, 96]), "d_model: must be a whole number"),
    "width beyond memory": (changed(d_model=[64, 10**18]), "d_model: must be a whole number"),
    "MLP width negative": (changed(d_intermediate=[-1, 192]), "d_intermediate: must be a whole number"),
    "MLP width missing": (changed(d_intermediate=[0, 0]), "d_intermediate: a stage of T2 has MLPs"),
    "heads do not divide": (changed(attn_cfg__num_heads=[2, 5]), "5 heads do not divide d_model 96"),
    "no heads": (changed(attn_cfg__num_heads=[2, 0]), "attn_cfg.num_heads: must be a whole number"),
    "odd rotary": (changed(attn_cfg__rotary_emb_dim=[16, 7]), "attn_cfg.rotary_emb_dim: must be even, got 7"),
    "rotary beyond the head": (changed(attn_cfg__rotary_emb_dim=[16, 64]), "64 is more than the head width 48"),
    "window below -1": (changed(attn_cfg__window_size=[-2, -1]), "attn_cfg.window_size: must be a whole number"),
    "window is null": (changed(attn_cfg__window_size=[None, -1]), "attn_cfg.window_size: must be a whole number"),
    "Mamba-2 heads do not divide": (changed(d_model=[48, 96]), "not a multiple of the Mamba-2 head width 64"),
    "no Mamba-2 state": (changed(ssm_cfg__d_state=0), "ssm_cfg.d_state: must be a whole number"),
    "vocabulary below bytes": (changed(vocab_size=255), "vocab_size: must be a whole number"),
    "vocabulary of 257": (changed(vocab_size=257), "leaves no room for both BOS and EOS"),
    "tied by text": (changed(tie_embeddings="yes"), "tie_embeddings: must be true or false"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_malformed_config(kind: str, tmp_path: Path):
    spoil, says = CONFIGS[kind]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(spoil(json.loads((MODELS / "tiny_1stage.json").read_text()))))
    assert_one_clear_line(lambda: HNetConfig.load(path), path, says)


# What a config file may hold that is no config at all.
CONFIG_FILES = {
    "empty": (b"", "line 1: not JSON"),
    "cut off": (b'{"arch_layout":\n ["m2"', "line 2: not JSON"),
    "not UTF-8": (b'{"arch_layout": "\xff"}', "not text in UTF-8"),
    "UTF-16": (b"\xff\xfe{\0}\0", "is text in UTF-16; save it as UTF-8"),
    "a number of many digits": (b'{"vocab_size": ' + b"1" * 5000 + b"}", "not JSON: Exceeds the limit"),
    "nested too deeply": (b"[" * 200_000, "nested too deeply"),
}


@pytest.mark.parametrize("kind", CONFIG_FILES)
def test_file_that_is_no_config(kind: str, tmp_path: Path):
    content, says = CONFIG_FILES[kind]
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert_one_clear_line(lambda: HNetConfig.load(path), path, says)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved model, ready to be spoilt."""
    save(HNetLM(HNetConfig.load(MODELS / "tiny_1stage.json")), tmp_path / "saved")
    return tmp_path / "saved"


def retensor(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Spoil the tensors of a saved model and write them again."""

    def spoil(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")

    return spoil


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_bytes(change((directory / name).read_bytes())) and None


def other_config(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / "config.json").write_bytes((MODELS / f"{name}.json").read_bytes()) and None


def replace_by_directory(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").mkdir()


def header_of(size: int, content: bytes = b"") -> Callable[[bytes], bytes]:
    return lambda _: struct.pack("<Q", size) + content


BIAS = "network.residual_proj.bias"
DIRECTORIES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "it has no config.json"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "it has no model.safetensors"),
    "neither": (lambda d: [path.unlink() for path in d.iterdir()], "no config.json and no model.safetensors"),
    "config spoilt": (rewrite("config.json", lambda _: b"{}"), "'arch_layout' is missing"),
    "config of another model": (
        other_config("tiny_2stage"),
        "'embedding.weight' has shape (256, 64), the config wants (256, 32)",
    ),
    "weights are a directory": (replace_by_directory, "is a directory, not a file of weights"),
    "weights empty": (rewrite("model.safetensors", lambda _: b""), "not a complete .safetensors file"),
    "weights cut off": (rewrite("model.safetensors", lambda data: data[:-100]), "not a complete .safetensors file"),
    "weights too long": (rewrite("model.safetensors", lambda data: data + b"x"), "not a complete .safetensors file"),
    "weights are text": (rewrite("model.safetensors", lambda _: b"hello, world"), "not a complete .safetensors file"),
    "header beyond the file": (rewrite("model.safetensors", header_of(10**15)), "not a complete .safetensors file"),
    "header not JSON": (rewrite("model.safetensors", header_of(4, b"none")), "not a complete .safetensors file"),
    "header without tensors": (rewrite("model.safetensors", header_of(2, b"{}")), "is missing"),
    "tensor missing": (retensor(lambda t: t.pop(BIAS)), f"tensor '{BIAS}' of shape (64,) is missing"),
    "tensor extra": (retensor(lambda t: t.update(more=torch.zeros(2))), "tensor 'more' of shape (2,) is no part"),
    "tensor misshapen": (
        retensor(lambda t: t.update({BIAS: torch.zeros(2)})),
        "has shape (2,), the config wants (64,)",
    ),
    "tensor renamed": (retensor(lambda t: t.update(bias=t.pop(BIAS))), f"tensor '{BIAS}' of shape (64,) is missing"),
    "tensor of integers": (
        retensor(lambda t: t.update({BIAS: torch.zeros(64, dtype=torch.int64)})),
        "is of torch.int64, which is not a floating-point type",
    ),
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_malformed_directory(kind: str, saved: Path):
    spoil, says = DIRECTORIES[kind]
    spoil(saved)
    assert_one_clear_line(lambda: load(saved), saved, says)


def test_no_directory_and_a_file_instead(tmp_path: Path):
    assert_one_clear_line(lambda: load(tmp_path / "nowhere"), tmp_path, "no such directory")
    (tmp_path / "file").write_text("")
    assert_one_clear_line(lambda: load(tmp_path / "file"), tmp_path, "is a file; a saved model is a directory")


LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1234\n"

OFFICIAL: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "not there": ("w.pt", lambda path: None, "no such file"),
    "a directory": ("w.pt", lambda path: path.mkdir(), "is a directory"),
    "empty": ("w.pt", lambda path: path.write_bytes(b""), "not a complete .pt file"),
    "a pickle cut off inside a number": ("w.pt", lambda path: path.write_bytes(b"\x80\x02X\x01\x00"), "not a complete"),
    "noise": ("w.pt", lambda path: path.write_bytes(bytes(range(256)) * 4), "w.pt"),
    "a zip of something else": (
        "w.pt",
        lambda path: path.write_bytes(b"PK\5\6" + bytes(18)),
        "not a complete .pt file",
    ),
    "cut off": ("w.pt", lambda path: cut(path), "w.pt"),
    "a list": ("w.pt", lambda path: torch.save([1, 2], path), "must hold a state dict, got list"),
    "one tensor": ("w.pt", lambda path: torch.save(torch.zeros(2), path), "must hold a state dict, got Tensor"),
    "a whole module": ("w.pt", lambda path: torch.save(torch.nn.Linear(2, 2), path), "refused: its pickle asks for"),
    "a wrapped state dict": ("w.pt", lambda path: torch.save({"model": {}}, path), "is missing"),
    "a Git LFS pointer": ("w.pt", lambda path: path.write_text(LFS_POINTER), "is a Git LFS pointer, not the weights"),
    "a pointer for safetensors": ("w.safetensors", lambda path: path.write_text(LFS_POINTER), "is a Git LFS pointer"),
    "a web page": ("w.bin", lambda path: path.write_text("<!DOCTYPE html><p>Log in"), "is a web page, not weights"),
    "gzip": ("w.pt", lambda path: path.write_bytes(gzip.compress(b"PK")), "is compressed with gzip; unpack it first"),
    "GGUF": ("w.safetensors", lambda path: path.write_bytes(b"GGUF\3\0\0\0"), "is a GGUF file"),
    "suffix unknown": ("w.npz", lambda path: path.write_bytes(b""), "read from .pt or .safetensors"),
    "safetensors spoilt": ("w.safetensors", lambda path: path.write_bytes(b"x"), "not a complete .safetensors file"),
}


def cut(path: Path) -> None:
    torch.save(load_file(GOLDEN / "weights.safetensors"), path)
    path.write_bytes(path.read_bytes()[:50_000])


@pytest.mark.parametrize("kind", OFFICIAL)
def test_malformed_official_weights(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    name, make, says = OFFICIAL[kind]
    config, weights = tmp_path / "config.json", tmp_path / name
    config.write_text(json.dumps(json.loads((GOLDEN / "case.json").read_text())["config"]))
    make(weights)
    assert_one_clear_line(lambda: load_official(config, weights), weights, says)
    assert main(["convert", str(config), str(weights), str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def assert_one_clear_line(act: Callable[[], Any], path: Path, says: str) -> None:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(UserError) as raised:
        act()
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert says in message
    assert len(message) < 500
    assert sorted(path.parent.rglob("*")) == before
