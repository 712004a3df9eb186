"""`--device`: one line that says which devices there are, from every command that has it."""

import pytest
import torch

from hnet_lm.cli.device import find_device
from hnet_lm.cli.main import main
from hnet_lm.errors import UserError


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_the_cpu_is_always_there(name: str):
    assert find_device(name).type == "cpu"


@pytest.mark.parametrize("name", ["nonsense", "", "cuda:-1", "meta", "vulkan", "cpu:3"])
def test_what_is_no_device_anywhere(name: str):
    with pytest.raises(UserError, match=f"^--device {name}: .*there (is|are) cpu"):
        find_device(name)


def accelerator(monkeypatch: pytest.MonkeyPatch, compiled: str | None, num: int) -> None:
    def current(check_available: bool = False) -> torch.device | None:
        return None if compiled is None or (check_available and not num) else torch.device(compiled)

    monkeypatch.setattr(torch.accelerator, "current_accelerator", current)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: num)


@pytest.mark.parametrize(
    ("compiled", "num", "name", "says"),
    [
        (None, 0, "cuda", "--device cuda: this torch is built without CUDA; there is cpu"),
        (None, 0, "mps", "--device mps: this torch is built without MPS; there is cpu"),
        ("cuda", 0, "cuda:1", "--device cuda:1: torch finds no CUDA device on this machine; there is cpu"),
        ("cuda", 2, "cuda:2", "--device cuda:2: this machine has no cuda:2; there are cpu, cuda, cuda:1"),
    ],
)
def test_what_this_torch_or_machine_has_not(
    compiled: str | None, num: int, name: str, says: str, monkeypatch: pytest.MonkeyPatch
):
    accelerator(monkeypatch, compiled, num)
    with pytest.raises(UserError) as caught:
        find_device(name)
    assert str(caught.value) == says


def test_what_it_has(monkeypatch: pytest.MonkeyPatch):
    accelerator(monkeypatch, "cuda", 2)
    assert [str(find_device(name)) for name in ("cuda", "cuda:0", "cuda:1")] == ["cuda", "cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "nowhere", "text"],
        ["chunks", "nowhere", "text"],
        ["serve", "nowhere", "--port", "0"],
        ["evaluate", "bpb", "nowhere", "sample:english"],
        ["evaluate", "robustness", "nowhere", "--text", "sample:code"],
        ["evaluate", "dna", "nowhere", "sample:dna"],
    ],
)
def test_every_command_says_it_before_it_reads_the_model(command: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*command, "--device", "nonsense"]) == 2
    assert capsys.readouterr().err == "hnet-lm: error: --device nonsense: no such device; there is cpu\n"
