"""Checkpoints of a run: which are kept, what damage is found and what then happens, and what a resume takes over."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_runs import Listener, losses, run_config, updates, weights

import hnet_lm
from hnet_lm import checkpoint
from hnet_lm.errors import ConfigError
from hnet_lm.training import loop
from hnet_lm.training.checkpoints import CheckpointStore, find_damage, read_trainer
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.loop import TrainingError, train

ALONE = Ranks(0, 1, torch.device("cpu"))
MOMENTS = ("optimizer/.metadata", "optimizer/__0_0.distcp")
FILES = ("config.json", "model.safetensors", "trainer.json", "random.pt", *MOMENTS)


def steps_kept(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in sorted((run / "checkpoints").iterdir())]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of six steps, `run`."""
    folder = tmp_path_factory.mktemp("finished")
    train(run_config(folder))
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed; corpus and model stay where they are."""
    shutil.copytree(finished / "run", tmp_path / "copy")
    return tmp_path / "copy"


def test_the_newest_are_kept_and_all_are_model_directories(finished: Path) -> None:
    assert steps_kept(finished / "run") == [4, 6]
    last = finished / "run" / "checkpoints" / "step_00000006"
    for directory in (finished / "run", last):
        model = hnet_lm.load(directory)
        assert all(weights(last)[name].equal(weight) for name, weight in model.state_dict().items())
    assert set(json.loads((last / "manifest.json").read_text())) == set(FILES)
    assert read_trainer(last)["step"] == 6


def test_the_best_is_kept_wherever_it_is(tmp_path: Path) -> None:
    """The rate grows until the model breaks, so that validation is best in the middle; checkpoints are rarer."""
    corpus = tmp_path / "corpus.jsonl"
    config = run_config(
        tmp_path,
        run={"num_steps": 9},
        optimizer={"lr": 0.3},
        schedule={"warmup": 1.0, "decay": 0.0},
        checkpoints={"every": 4, "keep": 1},
        validation={"sources": [{"path": str(corpus)}], "every": 1, "max_bytes": 300, "sample_bytes": 0},
    )
    state = train(config)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    measured = {r["step"]: r["validation/bits_per_byte"] for r in records if "validation/bits_per_byte" in r}
    best = min(measured, key=lambda step: measured[step])
    assert 1 < best < 9, "the run does not get worse at its end"
    assert state.best_step == best
    assert state.best_bits_per_byte == measured[best]
    assert steps_kept(tmp_path / "run") == [best, 9]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_damage_to_any_file_is_found(copy: Path, name: str, damage: Callable[[Path], None]) -> None:
    newest = copy / "checkpoints" / "step_00000006"
    assert find_damage(newest) is None
    damage(newest / name)
    store = CheckpointStore(copy / "checkpoints", ALONE)
    found, lines = store.newest()
    assert found == copy / "checkpoints" / "step_00000004"
    what = "is missing" if damage is Path.unlink else "has changed"
    assert lines == [f"checkpoint {newest} is damaged ({name} {what}); using the one before"]


@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_damage_to_the_manifest_is_found(copy: Path, damage: Callable[[Path], None]) -> None:
    newest = copy / "checkpoints" / "step_00000006"
    damage(newest / "manifest.json")
    assert find_damage(newest) == "manifest.json is missing or unreadable"


def test_a_damaged_newest_one_is_named_and_the_one_before_is_used(finished: Path, copy: Path) -> None:
    truncate(copy / "checkpoints" / "step_00000006" / "model.safetensors")
    listener = Listener()
    train(run_config(finished, name=str(copy)), listener)
    assert listener.started_at == 4
    assert "step_00000006 is damaged (model.safetensors has changed)" in listener.messages[0]
    assert listener.messages[1] == f"going on from step 4 of {copy / 'checkpoints' / 'step_00000004'}"
    assert losses(copy) == losses(finished / "run")
    assert all(weights(copy)[name].equal(weight) for name, weight in weights(finished / "run").items())
    assert steps_kept(copy) == [4, 6]
    assert find_damage(copy / "checkpoints" / "step_00000006") is None


def test_a_damaged_later_one_does_not_push_out_a_good_one(finished: Path, copy: Path) -> None:
    truncate(copy / "checkpoints" / "step_00000006" / "random.pt")
    config = run_config(finished, name=str(copy), checkpoints={"keep": 1})
    run = loop.build(config, ALONE)
    loop.resume(run, Listener(), allow_changes=False)
    run.state.step = 5
    loop.save(run)
    assert steps_kept(copy) == [5]
    assert find_damage(copy / "checkpoints" / "step_00000005") is None


def test_nothing_whole_is_one_clear_error(finished: Path, copy: Path) -> None:
    for path in (copy / "checkpoints").iterdir():
        flip_a_bit(path / "trainer.json")
    before = (copy / "metrics.jsonl").read_text()
    with pytest.raises(TrainingError, match="no checkpoint is whole; move the folder away to start anew"):
        train(run_config(finished, name=str(copy)))
    assert (copy / "metrics.jsonl").read_text() == before


def test_another_configuration_is_refused_with_the_differences(finished: Path, copy: Path) -> None:
    config = run_config(finished, name=str(copy), run={"num_steps": 8}, optimizer={"lr": 1e-3})
    with pytest.raises(ConfigError) as caught:
        train(config)
    message = str(caught.value)
    assert "optimizer.lr: 0.002 -> 0.001; run.num_steps: 6 -> 8" in message
    assert "--allow-changes" in message
    assert "\n" not in message
    assert losses(copy) == losses(finished / "run")


@pytest.mark.parametrize(
    "tables",
    [
        {"data": {"seed": 1}},
        {"data": {"sources": [{"path": "sample:english"}]}},
        {"data": {"tokens_per_batch": 48}},
        {"data": {"max_length": 24}, "optimizer": {"lr": 1e-3}},
    ],
)
@pytest.mark.parametrize("allow_changes", [False, True])
def test_what_cannot_change_is_not_offered_to_be_allowed(
    finished: Path, copy: Path, tables: dict[str, dict[str, object]], allow_changes: bool
) -> None:
    (key,) = tables["data"]
    with pytest.raises(ConfigError) as caught:
        train(run_config(finished, name=str(copy), **tables), allow_changes=allow_changes)
    message = str(caught.value)
    assert f"data.{key}" in message
    assert "optimizer.lr" not in message
    assert "--allow-changes" not in message
    assert message.endswith("cannot change within a run; take another run.directory")


def test_another_architecture_is_refused_even_with_changes_allowed(finished: Path, copy: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.architecture\.arch_layout: .* which cannot change"):
        train(run_config(finished, 2, name=str(copy)), allow_changes=True)
    assert all(weights(copy)[name].equal(weight) for name, weight in weights(finished / "run").items())


def test_what_changes_no_batch_may_change(finished: Path, copy: Path) -> None:
    config = run_config(finished, name=str(copy), data={"on_error": "skip", "num_workers": 1})
    assert train(config, allow_changes=True).step == 6


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one(
    finished: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be back tomorrow; the one before would have been gone on from, and the newest removed."""
    plain = Path.open

    def fails(path: Path, mode: str = "r", *arguments: object, **options: object) -> object:
        if path.name == "random.pt" and "step_00000006" in str(path):
            raise OSError(5, "Input/output error", str(path))
        return plain(path, mode, *arguments, **options)  # pyright: ignore[reportArgumentType]  # handed on as they are

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fails)
        with pytest.raises(TrainingError, match=r"step_00000006/random\.pt: cannot be read: Input/output error"):
            train(run_config(finished, name=str(copy)))
    assert steps_kept(copy) == [4, 6]


def test_a_checkpoint_that_was_being_replaced_is_put_back(finished: Path, copy: Path) -> None:
    newest = copy / "checkpoints" / "step_00000006"
    newest.rename(newest.with_name(f".{newest.name}.replaced"))
    listener = Listener()
    train(run_config(finished, name=str(copy)), listener)
    assert listener.started_at == 6
    assert steps_kept(copy) == [4, 6]


def test_a_save_that_was_killed_is_told_of(finished: Path, copy: Path) -> None:
    (copy / "checkpoints" / ".step_00000008.partial").mkdir()
    listener = Listener()
    train(run_config(finished, name=str(copy)), listener)
    assert "step_00000008 was being written when the run was killed; it is left out" in listener.messages


def test_another_architecture_is_refused(finished: Path, copy: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.architecture\.arch_layout: .* -> "):
        train(run_config(finished, 2, name=str(copy)))


def test_allowed_changes_count(finished: Path, copy: Path) -> None:
    """Rates, betas and decay are those of the new configuration, the moments those of the old run."""
    optimizer = {"lr": 1e-3, "lr_multipliers": [4.0, 2.0], "betas": [0.5, 0.6], "weight_decay": 0.3}
    config = run_config(finished, name=str(copy), run={"num_steps": 8}, optimizer=optimizer)
    run = loop.build(config, ALONE)
    loop.resume(run, Listener(), allow_changes=True)
    groups = run.optimizer.param_groups
    assert {(g["lr_multiplier"], g["betas"]) for g in groups} == {(4.0, (0.5, 0.6)), (2.0, (0.5, 0.6))}
    assert {g["weight_decay"] for g in groups} == {0.0, 0.3}
    assert all(state["step"] == 6 for state in run.optimizer.state.values())
    assert len(run.optimizer.state) == len(list(run.model.parameters()))


def test_a_chosen_precision_stays_and_a_named_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another machine "auto" may mean the other type."""
    chosen = {"auto": torch.bfloat16, "float32": torch.float32, "bfloat16": torch.bfloat16}
    monkeypatch.setattr("hnet_lm.training.start.choose_precision", lambda name, device: chosen[name])
    monkeypatch.setattr("hnet_lm.training.records.matmul_peak", lambda *_: 1e9)  # slow in bfloat16 on some CPUs
    train(run_config(tmp_path, run={"num_steps": 1, "precision": "auto"}))
    chosen["auto"] = torch.float32
    for name, wanted in (("auto", torch.bfloat16), ("float32", torch.float32)):
        run = loop.build(run_config(tmp_path, run={"num_steps": 2, "precision": name}), ALONE)
        loop.resume(run, Listener(), allow_changes=True)
        assert run.precision == wanted


def test_what_was_frozen_starts_its_moments_when_it_thaws(tmp_path: Path) -> None:
    train(run_config(tmp_path, run={"num_steps": 2}, model={"freeze": ["stage:0"]}))
    config = run_config(tmp_path, run={"num_steps": 4})
    run = loop.build(config, ALONE)
    loop.resume(run, Listener(), allow_changes=True)
    stages = run.model.parameter_stages()
    held = {name for name, weight in run.model.named_parameters() if weight in run.optimizer.state}
    assert held == {name for name, stage in stages.items() if stage == 1}
    train(config, allow_changes=True)
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4]


def test_a_finished_run_publishes_its_weights_again(finished: Path, copy: Path) -> None:
    """A kill may come between the rename of the last checkpoint and that."""
    shutil.copy(copy / "checkpoints" / "step_00000004" / "model.safetensors", copy)
    train(run_config(finished, name=str(copy)))
    assert all(weights(copy)[name].equal(weight) for name, weight in weights(finished / "run").items())


def test_fine_tuning_starts_from_the_saved_weights(finished: Path, tmp_path: Path) -> None:
    """Frozen parts stay what they were, others move; the base rate of a tiny run moves them little."""
    base = weights(finished / "run")
    model = {"config": "", "init_from": str(finished / "run"), "freeze": ["embedding.*", "network.main_network.*"]}
    train(run_config(tmp_path, model=model, run={"num_steps": 2}, optimizer={"lr": 1e-6}))
    for name, weight in weights(tmp_path / "run").items():
        is_frozen = name.startswith(("embedding.", "network.main_network."))
        assert weight.equal(base[name]) == is_frozen, name
        torch.testing.assert_close(weight, base[name], atol=1e-4, rtol=0)


def test_fine_tuning_an_official_model(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "goldens" / "one_stage"
    official = hnet_lm.load_official(
        json.loads((golden / "case.json").read_text())["config"], golden / "weights.safetensors"
    )
    checkpoint.save(official, tmp_path / "official")
    model = {"config": "", "init_from": str(tmp_path / "official")}
    train(run_config(tmp_path, model=model, run={"num_steps": 1}, schedule={"decay": 0.0}, optimizer={"lr": 1e-6}))
    assert len(updates(tmp_path / "run")) == 1
    for name, weight in weights(tmp_path / "run").items():
        torch.testing.assert_close(weight, official.state_dict()[name], atol=1e-4, rtol=0)


def test_a_model_that_does_not_fit_the_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss\.target_ratios: the model chunks 1 times, but 2 are given"):
        train(run_config(tmp_path, loss={"target_ratios": [3.0, 3.0]}))
