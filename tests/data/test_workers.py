"""Background processes: they end when told, and a death or an error of one is reported."""

import itertools
import os
import signal
from pathlib import Path

import pytest
from data_corpora import random_texts, write_jsonl

from hnet_lm.data import DataConfig, DataLoader, SourceConfig
from hnet_lm.data.workers import Workers
from hnet_lm.errors import DataError


def config_of(path: Path, num_workers: int = 2) -> DataConfig:
    return DataConfig(
        (SourceConfig(str(path)),), tokens_per_batch=200, max_length=50, streams=2, num_workers=num_workers
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "corpus.jsonl", random_texts(100))


def processes_of(loader: DataLoader) -> list:
    assert isinstance(loader._reader, Workers)
    return loader._reader._processes


def test_workers_end_with_the_loader_and_start_again(path: Path) -> None:
    with DataLoader(config_of(path)) as loader:
        next(loader)
        processes = processes_of(loader)
        assert [process.is_alive() for process in processes] == [True, True]
    assert [process.exitcode for process in processes] == [0, 0]
    next(loader)
    loader.close()


def test_no_more_workers_than_streams(path: Path) -> None:
    with DataLoader(config_of(path, num_workers=7)) as loader:
        next(loader)
        assert len(processes_of(loader)) == 2


def test_a_killed_worker_is_reported(path: Path) -> None:
    with DataLoader(config_of(path)) as loader:
        next(loader)
        os.kill(processes_of(loader)[1].pid, signal.SIGKILL)
        with pytest.raises(DataError, match=r"data worker 1 ended unexpectedly \(exit code -9\)"):
            list(itertools.islice(loader, 1000))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_the_training_process(path: Path, number: signal.Signals) -> None:
    with DataLoader(config_of(path)) as loader:
        loader._reader = loader._open()
        for process in processes_of(loader):  # they are only starting
            os.kill(process.pid, number)
        list(itertools.islice(loader, 500))


def test_an_error_in_a_worker_is_the_same_error(path: Path) -> None:
    with path.open("a") as file:
        file.write("oops\n")
    with DataLoader(config_of(path)) as loader, pytest.raises(DataError, match=r"corpus.jsonl:101: not JSON"):
        list(itertools.islice(loader, 1000))
