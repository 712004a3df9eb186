"""What a run needs is tried before its first update, and what fails later never costs an update that was made."""

import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Listener, losses, make_batch, run_config, weights

from hnet_lm.errors import ConfigError, DataError, UserError
from hnet_lm.training import preflight
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.loop import train
from hnet_lm.training.machine import choose_precision, describe_products, float32_products
from hnet_lm.training.metrics import read_metrics
from hnet_lm.training.run import build
from hnet_lm.training.validation import Validator

ALONE = Ranks(0, 1, torch.device("cpu"))
Usage = namedtuple("Usage", "total used free")


def validated(folder: Path, **values: Any) -> dict[str, Any]:
    return {"sources": [{"path": str(folder / "held_out.jsonl")}], "max_bytes": 200, "sample_bytes": 0, **values}


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    file = tmp_path / "held_out.jsonl"
    file.write_text('{"text": "abc def ghi"}\n')
    return file


def same_weights(left: Path, right: Path) -> bool:
    found, wanted = weights(left), weights(right)
    return all(found[name].equal(weight) for name, weight in wanted.items())


def test_a_rehearsal_changes_no_update(tmp_path: Path, held_out: Path) -> None:
    sampled = validated(tmp_path, every=100, sample_bytes=3, sample_prompt="ab")
    train(run_config(tmp_path, 2, name="without"))
    train(run_config(tmp_path, 2, name="with", validation=sampled))
    assert losses(tmp_path / "without") == losses(tmp_path / "with")
    assert same_weights(tmp_path / "without", tmp_path / "with")


def test_every_source_is_rehearsed_even_where_the_first_fills_the_measure(tmp_path: Path, held_out: Path) -> None:
    seen: list[bytes] = []
    (tmp_path / "more.jsonl").write_text('{"text": ""}\n{"text": "second"}\n')
    sources = [{"path": str(held_out)}, {"path": str(tmp_path / "more.jsonl")}]
    config = run_config(tmp_path, validation=validated(tmp_path, sources=sources, max_bytes=5))
    validator = Validator(build(config, ALONE).model, config, ALONE, torch.float32)
    measured = validator._measure
    validator._measure = lambda texts: measured([seen.append(text) or text for text in texts])
    validator.rehearse()
    assert seen == [b"abc d", b"secon"]


@pytest.mark.parametrize("every", [4, 100])
def test_a_validation_that_fails_later_costs_no_update_and_is_made_up_for(
    tmp_path: Path, held_out: Path, every: int
) -> None:
    """Its file is gone by then; put back, the same command goes on as if nothing had been."""
    config = run_config(tmp_path, name="run", checkpoints={"every": 100}, validation=validated(tmp_path, every=every))
    train(run_config(tmp_path, name="wanted", validation=validated(tmp_path, every=every)))
    kept = held_out.read_bytes()
    listener = Listener(lambda step: held_out.unlink(missing_ok=True) if step == 2 else None)
    with pytest.raises(DataError, match="held_out"):
        train(config, listener)
    failed_at = min(every, 6)
    assert list(losses(tmp_path / "run")) == list(range(1, failed_at + 1))
    assert listener.messages[-1].startswith(f"step {failed_at} is saved in ")
    assert listener.closed

    held_out.write_bytes(kept)
    listener = Listener()
    state = train(config, listener)
    assert (listener.started_at, state.step) == (failed_at, 6)
    assert read_numbers(tmp_path / "run") == read_numbers(tmp_path / "wanted")
    assert same_weights(tmp_path / "run", tmp_path / "wanted")
    assert state.best_step is not None
    assert train(config, Listener()).best_step == state.best_step
    assert read_numbers(tmp_path / "run") == read_numbers(tmp_path / "wanted"), "it is made once"


def read_numbers(run: Path) -> list[tuple[int, Any, Any]]:
    """Losses and validations of the metrics in their order."""
    records = read_metrics(run / "metrics.jsonl")
    return [(record["step"], record.get("loss"), record.get("validation/bits_per_byte")) for record in records]


def test_data_that_fails_later_costs_no_update(tmp_path: Path) -> None:
    """Three micro-batches per update, and not the first of them is the one that cannot be read."""
    corpus = tmp_path / "other.jsonl"
    good = "".join(f'{{"text": "{number} and some more words of it"}}\n' for number in range(26))
    corpus.write_text(good + "no JSON\n")
    data = {"sources": [{"path": str(corpus)}], "shuffle_bytes": 200}
    config = run_config(tmp_path, run={"accumulation": 3}, data=data, checkpoints={"every": 100})
    listener = Listener()
    with pytest.raises(DataError, match="not JSON"):
        train(config, listener)
    reached = max(losses(tmp_path / "run"))
    assert 1 <= reached < 6
    assert listener.messages[-1].startswith(f"step {reached} is saved in ")
    with pytest.raises(DataError, match="not JSON"):
        train(config, Listener())
    assert max(losses(tmp_path / "run")) == reached, "the position is that of the last update, not of the last batch"


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), UnicodeEncodeError("ascii", "é", 0, 1, "no")])
def test_a_terminal_that_fails_costs_no_update(tmp_path: Path, error: Exception) -> None:
    def fail(step: int) -> None:
        if step == 3:
            raise error

    config = run_config(tmp_path, checkpoints={"every": 100})
    with pytest.raises(type(error)):
        train(config, Listener(fail))
    listener = Listener()
    train(config, listener)
    assert listener.started_at == 3
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]


def test_a_disk_without_room_for_a_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_config(tmp_path)
    size, published = preflight.checkpoint_bytes(build(config, ALONE))
    for free, refused in ((size + published - 1, True), (size + published, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: Usage(10 * free, 9 * free, free))
        listener = Listener()
        if refused:
            with pytest.raises(TrainingError, match=r"are free on its disk, but a checkpoint .* take .*; free some"):
                train(config, listener)
            assert not (tmp_path / "run").exists()
        else:
            train(config, listener)
            said = "but the 2 checkpoints that the run keeps, and one while it is written, will take"
            assert any(said in message for message in listener.messages)


def test_room_is_reckoned_as_it_is_used(tmp_path: Path) -> None:
    """Within the headers of the files, which a tiny model is not far above."""
    config = run_config(tmp_path, run={"num_steps": 1}, model={"freeze": ["embedding.*"]})
    train(config)
    size, published = preflight.checkpoint_bytes(build(config, ALONE))
    step = tmp_path / "run" / "checkpoints" / "step_00000001"
    assert (step / "model.safetensors").stat().st_size == pytest.approx(published, rel=0.1)
    moments = sum(file.stat().st_size for file in (step / "optimizer").iterdir())
    assert moments == pytest.approx(size - published, rel=0.8)
    assert moments > size - published


def test_a_run_with_all_its_checkpoints_needs_no_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(run_config(tmp_path))
    size, published = preflight.checkpoint_bytes(build(run_config(tmp_path), ALONE))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, size + published))
    listener = Listener()
    train(run_config(tmp_path, run={"num_steps": 7}), listener, allow_changes=True)
    assert not [message for message in listener.messages if "free" in message]


def test_a_tracker_that_is_not_installed_is_missed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "hnet_lm.training.trackers.wandb", raising=False)
    with pytest.raises(UserError, match=r"'wandb' needs the package wandb: pip install 'hnet-lm\[wandb\]'"):
        train(run_config(tmp_path, logging={"trackers": ["wandb"]}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"LOCAL_RANK": "2"}, r"LOCAL_RANK 2: there is no cuda:2, this machine offers 2 CUDA devices; start at most 2"),
        ({"LOCAL_RANK": "one"}, "LOCAL_RANK must be a whole number, got 'one'; torchrun sets it"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE must be a whole number, got ''; torchrun sets it"),
    ],
)
def test_a_device_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=message):
        train(run_config(tmp_path))
    assert not (tmp_path / "run").exists()


def test_ranks_that_cannot_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="the 2 ranks could not meet; start them with torchrun: ") as caught:
        train(run_config(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_precision_of_auto_is_that_of_the_machines_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, avx512, wanted in ((0, 0, torch.float32), (1, 0, torch.bfloat16), (0, 1, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: bool(amx))
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx512=avx512: bool(avx512))
        assert {choose_precision("auto", torch.device("cpu")) for _ in range(5)} == {wanted}
        assert choose_precision("float32", torch.device("cpu")) == torch.float32
        assert choose_precision("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert choose_precision("auto", torch.device("cuda")) == torch.bfloat16


def test_config_and_init_from_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model: give either config .* or init_from .*, not both"):
        run_config(tmp_path, model={"init_from": "base"})


def test_what_decides_the_precision_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hnet_lm.training.records.matmul_peak", lambda *_: 1e9)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    listener = Listener()
    train(run_config(tmp_path, run={"num_steps": 1, "precision": "auto"}), listener)
    assert "matrix products in float32 (auto: the CPU has neither amx_bf16 nor avx512_bf16)" in listener.messages
    gpu = torch.device("cuda")
    assert describe_products("auto", torch.bfloat16, gpu, True).endswith("those that stay in float32 in TF32")


def test_tf32_is_the_run_s_alone() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    with float32_products(True):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    with float32_products(False):
        assert torch.backends.cuda.matmul.fp32_precision == before
    assert torch.backends.cuda.matmul.fp32_precision == before


def test_ids_travel_to_cuda_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the copy would wait for the device."""
    copied = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 0)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, device, **options: copied.append((tensor, options)) or tensor
    )
    batch = make_batch([5])
    monkeypatch.setattr("hnet_lm.data.batch.Sequences.from_lengths", lambda lengths, device: batch.sequences)
    batch.to("cuda")
    assert [options for _, options in copied] == [{"non_blocking": True}] * 2
    assert not any(tensor is batch.input_ids or tensor is batch.targets for tensor, _ in copied)
