"""Run files are read strictly: every mistake is one line that names the file, the key and what would be right."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from training_runs import architecture

from hnet_lm.cli.main import parse_command
from hnet_lm.errors import ConfigError, UserError
from hnet_lm.tables import from_table, to_table
from hnet_lm.training.changes import differences
from hnet_lm.training.config import RunConfig

DOCS = Path(__file__).parents[2] / "docs" / "training.md"
MINIMAL = {
    "run": {"directory": "runs/x", "num_steps": 10},
    "model": {"config": "model.json"},
    "data": {"sources": [{"path": "corpus.txt"}]},
}


def with_values(**tables: Any) -> dict[str, Any]:
    """The minimal run with more in its tables."""
    return MINIMAL | {key: {**MINIMAL.get(key, {}), **values} for key, values in tables.items()}


def load(folder: Path, text: str) -> RunConfig:
    file = folder / "run.toml"
    file.write_text(text)
    return RunConfig.load(file)


def test_the_smallest_run_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[run]\ndirectory = "runs/x"\nnum_steps = 10\n[model]\nconfig = "model.json"\n'
        '[[data.sources]]\npath = "corpus.txt"\n',
    )
    assert config.run.num_steps == 10
    assert config.model.config == str(tmp_path / "model.json")
    assert config.run.directory == "runs/x", "seen from where the command is given"


@pytest.mark.parametrize("init_from", ["/models/base", "hf:owner/name"])
def test_a_model_elsewhere_stays_where_it_is(tmp_path: Path, init_from: str) -> None:
    text = f'[run]\ndirectory = "x"\nnum_steps = 1\n[model]\ninit_from = "{init_from}"\n[[data.sources]]\npath = "a"\n'
    assert load(tmp_path, text).model.init_from == init_from


def test_there_and_back() -> None:
    config = from_table(RunConfig, with_values(loss={"target_ratios": [6]}, optimizer={"lr_multipliers": [2, 1.5]}))
    assert config.loss.target_ratios == (6.0,)
    assert config.optimizer.lr_multipliers == (2.0, 1.5)
    table = to_table(config)
    table = {key: {k: v for k, v in values.items() if v is not None} for key, values in table.items()}
    assert from_table(RunConfig, table) == config


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**MINIMAL, "optimiser": {}}, "run file: unknown key 'optimiser'; did you mean 'optimizer'?"),
        (with_values(run={"num_step": 5}), "run: unknown key 'num_step'; did you mean 'num_steps'?"),
        (with_values(data={"stream": 5}), "data: unknown key 'stream'; did you mean 'streams'?"),
        (with_values(data={"sources": [{"pth": "x"}]}), "data.sources[0]: unknown key 'pth'; did you mean 'path'?"),
        (
            with_values(data={"sources": [{"path": "x", "fasta": {"windows": 5}}]}),
            "data.sources[0].fasta: unknown key 'windows'; did you mean 'window'?",
        ),
        (with_values(validation={"sources": [{"path": "x", "feild": "y"}]}), "did you mean 'field'?"),
        (with_values(loss={"xyz": 1}), "loss: unknown key 'xyz'; known keys: ramp, "),
    ],
)
def test_unknown_keys_at_every_level(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_table(RunConfig, table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (with_values(run={"num_steps": "10"}), "run.num_steps: must be a whole number, got '10'"),
        (with_values(run={"num_steps": 10.0}), "run.num_steps: must be a whole number, got 10.0"),
        (with_values(run={"num_steps": True}), "run.num_steps: must be a whole number, got True"),
        (
            with_values(run={"activation_checkpointing": 1}),
            "run.activation_checkpointing: must be true or false, got 1",
        ),
        (with_values(run={"directory": 5}), "run.directory: must be a string, got 5"),
        (with_values(run={"precision": "float16"}), "must be one of 'auto', 'float32', 'bfloat16', got 'float16'"),
        (with_values(optimizer={"lr": "1e-3"}), "optimizer.lr: must be a number, got '1e-3'"),
        (with_values(optimizer={"lr": True}), "optimizer.lr: must be a number, got True"),
        (with_values(optimizer={"betas": 0.9}), "optimizer.betas: must be a list, got 0.9"),
        (with_values(optimizer={"betas": [0.9, "x"]}), "optimizer.betas[1]: must be a number, got 'x'"),
        (with_values(logging={"trackers": ["mlflow"]}), "logging.trackers[0]: must be one of 'tensorboard', "),
        ({**MINIMAL, "loss": 5}, "loss: must be a table, got 5"),
        (with_values(data={"sources": {"path": "x"}}), "data.sources: must be a list"),
        (with_values(data={"sources": ["x"]}), "data.sources[0]: must be a table, got 'x'"),
    ],
)
def test_values_of_other_types(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_table(RunConfig, table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({key: MINIMAL[key] for key in ("run", "model")}, "run file: 'data' is missing"),
        ({**MINIMAL, "run": {"directory": "x"}}, "run: give either num_steps or minutes"),
        (with_values(data={"sources": [{}]}), "data.sources[0]: 'path' is missing"),
    ],
)
def test_missing_keys(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_table(RunConfig, table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"run": {"num_steps": 0}}, "run.num_steps: must be a whole number, 1 or more"),
        ({"run": {"directory": ""}}, "run.directory: must name a folder"),
        ({"run": {"accumulation": 0}}, "run.accumulation: must be a whole number, 1 or more"),
        ({"run": {"max_skipped_in_a_row": 0}}, "run.max_skipped_in_a_row: must be a whole number, 1 or more"),
        ({"model": {"init_from": "x"}}, "model: give either config (fresh weights) or init_from (a saved model)"),
        ({"model": {"config": ""}}, "model: give either config (fresh weights) or init_from (a saved model)"),
        ({"loss": {"target_ratios": [1.0]}}, "loss.target_ratios: must be a number above 1"),
        ({"loss": {"ratio_loss_weight": -1.0}}, "loss.ratio_loss_weight: must be a number, 0 or more"),
        ({"loss": {"ramp": 1.5}}, "loss.ramp: must be a number from 0 to 1"),
        ({"loss": {"ramp_after": -0.1}}, "loss.ramp_after: must be a number from 0 to 1"),
        ({"loss": {"target_ratios": [3.0], "start_target_ratios": [2.0, 2.0]}}, "must have as many entries"),
        ({"schedule": {"warmup": 1.5}}, "schedule.warmup: must be a number from 0 to 1"),
        ({"schedule": {"warmup": 0.6, "decay": 0.6}}, "warmup 0.6 and decay 0.6 together exceed the run"),
        ({"checkpoints": {"keep": 0}}, "checkpoints.keep: must be a whole number, 1 or more"),
        ({"validation": {"every": 0}}, "validation.every: must be a whole number, 1 or more"),
        ({"logging": {"every": 0}}, "logging.every: must be a whole number, 1 or more"),
    ],
)
def test_values_out_of_range(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_table(RunConfig, with_values(**tables))
    assert message in str(caught.value)


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml: not TOML: .*line 2"):
        load(tmp_path, "[run]\nnum_steps = \n")
    for data, says in (
        (b"\xff", r", line 1: not text in UTF-8"),
        (b"\xff\xfe", ": is text in UTF-16; save it as UTF-8"),
        (b"a = " + b"[" * 100_000, ": not TOML: "),
        (b"a = " + b"1" * 5000, ": not TOML: Exceeds the limit"),
    ):
        (tmp_path / "run.toml").write_bytes(data)
        with pytest.raises(ConfigError, match=rf"run\.toml{says}"):
            RunConfig.load(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        RunConfig.load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        RunConfig.load(tmp_path)
    with pytest.raises(ConfigError, match=r"run\.toml: run: unknown key 'num_step'; did you mean 'num_steps'\?"):
        load(tmp_path, "[run]\nnum_step = 5\n")


def test_differences_name_each_key_and_leave_out_what_changes_no_update() -> None:
    saved = to_table(from_table(RunConfig, MINIMAL))
    now = to_table(
        from_table(
            RunConfig,
            with_values(
                run={"directory": "elsewhere", "num_steps": 20, "activation_checkpointing": True},
                data={"num_workers": 4},
                optimizer={"lr": 1e-3},
                checkpoints={"every": 7},
                logging={"every": 3},
                distributed={"strategy": "fsdp"},
            ),
        )
    )
    assert differences(saved, now) == ["optimizer.lr: 0.000625 -> 0.001", "run.num_steps: 10 -> 20"]
    assert differences(saved, saved) == []


def test_the_documented_run_file_for_fine_tuning_is_whole(tmp_path: Path) -> None:
    """As printed, without a key that has to be guessed."""
    (printed,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    config = load(tmp_path, printed)
    assert config.model.init_from == str(tmp_path / "../../runs/base")
    assert config.model.freeze == ("stage:0",)
    config.check_model(architecture(1))


FRESH = """
[run]
directory = "x"
num_steps = 10
[model]
config = "a.json"
[loss]
target_ratios = [3.0]
start_target_ratios = [2.0]
[optimizer]
lr_multipliers = [2.0, 1.0]
[[validation.sources]]
path = "sample:english"
[[data.sources]]
path = "corpus.txt"
"""


def parsed(folder: Path, *arguments: str) -> RunConfig:
    """What `hnet-lm train` makes of these arguments and a file with fresh weights; `base1` and `base2` are models."""
    (folder / "run.toml").write_text(FRESH)
    for num_stages in (1, 2):
        (folder / f"base{num_stages}").mkdir(exist_ok=True)
        config = architecture(num_stages).to_dict()
        (folder / f"base{num_stages}" / "config.json").write_text(json.dumps(config))
    return parse_command("train", [str(folder / "run.toml"), *arguments]).config


def test_a_saved_model_on_the_command_line_replaces_the_config_of_the_file(tmp_path: Path) -> None:
    assert "`--model.init-from runs/base` also replaces the `model.config`" in " ".join(DOCS.read_text("utf-8").split())
    base = str(tmp_path / "base1")
    for arguments in (["--model.init-from", base], [f"--model.init-from={base}"], [f"--model.init_from={base}"]):
        config = parsed(tmp_path, *arguments)
        assert (config.model.config, config.model.init_from) == ("", base)
        assert config.loss.target_ratios == (3.0,), "they fit, so they are the file's"
        assert config.optimizer.lr_multipliers == (2.0, 1.0)


def test_targets_and_multipliers_of_other_stages_are_left_out(tmp_path: Path) -> None:
    config = parsed(tmp_path, "--model.init-from", str(tmp_path / "base2"))
    assert config.loss.start_target_ratios is None
    assert config.optimizer.lr_multipliers is None
    fitted = config.for_model(architecture(2))
    assert fitted.loss.target_ratios == (3.0, 3.0)
    given = parsed(tmp_path, "--model.init-from", str(tmp_path / "base1"), "--loss.target-ratios", "5.0")
    assert given.for_model(architecture(1)).loss.target_ratios == (5.0,)
    assert given.for_model(architecture(1)).loss.start_target_ratios == (2.0,)


def test_minutes_replace_a_number_of_steps_and_the_other_way_round(tmp_path: Path) -> None:
    config = parsed(tmp_path, "--run.minutes", "2")
    assert (config.run.num_steps, config.run.minutes) == (None, 2.0)
    config = parsed(tmp_path, "--run.num-steps", "7")
    assert (config.run.num_steps, config.run.minutes) == (7, None)
    with pytest.raises(UserError, match=r"run: give either num_steps or minutes, not both"):
        parsed(tmp_path, "--run.minutes", "2", "--run.num-steps", "7")


def test_held_out_documents_replace_the_sources_of_the_validation(tmp_path: Path) -> None:
    config = parsed(tmp_path, "--validation.hold-out", "0.1")
    assert (config.validation.sources, config.validation.hold_out) == ((), 0.1)


def test_a_tokenizer_is_seen_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    text = FRESH + '[data]\ntokenizer = "../bpe/tokenizer.json"\n'
    text = text.replace('[[data.sources]]\npath = "corpus.txt"\n', "").replace(
        "[data]", '[data]\nsources = [{path = "a"}]'
    )
    config = load(tmp_path / "runs", text)
    assert config.data.tokenizer == str(tmp_path / "runs" / "../bpe/tokenizer.json")


def test_a_model_in_the_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    text = '[run]\ndirectory = "x"\nnum_steps = 1\n[model]\ninit_from = "~/base"\n[[data.sources]]\npath = "a"\n'
    assert load(tmp_path, text).model.init_from == "/home/somebody/base"
