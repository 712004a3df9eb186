"""A run that is validated on a part of its own data."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from training_runs import Listener, losses, run_config, run_table, to_toml

from hnet_lm.cli.main import main
from hnet_lm.errors import ConfigError, DataError
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.metrics import read_metrics

HELD_OUT: dict[str, Any] = {"hold_out": 0.3, "every": 3, "sample_bytes": 0, "context": 512}


def test_it_is_validated_on_what_it_is_not_trained_on(tmp_path: Path) -> None:
    plain = run_config(tmp_path, name="plain")
    config = run_config(tmp_path, name="held_out", validation=HELD_OUT)
    train(plain)
    state = train(config)
    assert state.best_bits_per_byte is not None
    assert losses(tmp_path / "plain") != losses(tmp_path / "held_out"), "other documents are read"
    records = [r for r in read_metrics(tmp_path / "held_out" / "metrics.jsonl") if "validation/num_bytes" in r]
    corpus_bytes = (tmp_path / "corpus.jsonl").stat().st_size
    assert [record["step"] for record in records] == [3, 6]
    assert 0 < records[0]["validation/num_bytes"] < corpus_bytes / 2


def test_it_goes_on_with_the_same_split_and_with_no_other(tmp_path: Path) -> None:
    train(run_config(tmp_path, name="unbroken", validation=HELD_OUT))
    config = run_config(tmp_path, name="stopped", validation=HELD_OUT)
    train(config, Listener(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None))
    with pytest.raises(DataError, match=r"validation\.hold_out changed"):
        train(run_config(tmp_path, name="stopped", validation={**HELD_OUT, "hold_out": 0.2}))
    train(config)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "unbroken")


def test_the_evaluation_measures_the_same_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run_config(tmp_path, validation={**HELD_OUT, "context": 8192})
    train(config)
    record = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "validation/num_bytes" in r][-1]
    corpus = str(tmp_path / "corpus.jsonl")
    assert main(["evaluate", "bpb", str(tmp_path / "run"), corpus, "--hold-out", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert f"{record['validation/num_bytes']:,}" in printed
    assert f"{record['validation/bits_per_byte']:.4f}" in printed
    assert main(["evaluate", "bpb", str(tmp_path / "run"), corpus, "--hold-out", "1.5"]) == 2


def test_one_document_cannot_be_divided(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("once upon a time " * 50)
    config = run_config(tmp_path, data={"sources": [{"path": str(tmp_path / "book.txt")}]}, validation=HELD_OUT)
    with pytest.raises(DataError, match=r"validation\.hold_out: 0\.3 of the documents .* data\.sources\.separator"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_held_out_on_the_command_line_replaces_the_sources_of_the_file(tmp_path: Path) -> None:
    table = run_table(tmp_path, validation={"sources": [{"path": "sample:english"}]})
    (tmp_path / "run.toml").write_text(to_toml(table))
    config = RunConfig.load(tmp_path / "run.toml", {"validation.hold_out"})
    assert config.validation.sources == ()
    with pytest.raises(ConfigError, match=r"validation: give either sources or hold_out .*, not both"):
        run_config(tmp_path, validation={"sources": [{"path": "sample:english"}], "hold_out": 0.1})


def test_a_validation_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "-"):
        with pytest.raises(DataError, match=r"validation\.sources: .* is a pipe, which can be read only once"):
            train(run_config(tmp_path, validation={"sources": [{"path": path}]}))
        assert not (tmp_path / "run").exists()
