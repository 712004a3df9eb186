"""The same command gives the same bits, on a busy machine too, and after a stop."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import TARGET_RATIOS, Listener, make_batch, make_model, run_config, updates, weights, write_corpus

from hnet_lm.losses import RatioLoss
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.loop import train
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer
from hnet_lm.training.step import update
from thoroughness import is_thorough

ALONE = Ranks(0, 1, torch.device("cpu"))
NUM_STEPS, NUM_BUSY = 16 if is_thorough() else 5, 3
ADDS_IN_AN_ORDER_OF_CHANCE = {
    "aten::index_put": 3,
    "aten::index_put_": 3,
    "aten::_index_put_impl_": 3,
    "aten::_unsafe_index_put": 3,
}
"""Ops that, asked to accumulate by the argument of this number, add with atomics from several threads."""


class AccumulatingOps(TorchDispatchMode):
    """Collects the ops whose sums come out in an order of chance, in forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, kwargs or {}
        position = ADDS_IN_AN_ORDER_OF_CHANCE.get(name)
        accumulates = position is not None and (kwargs.get("accumulate") or (len(args) > position and args[position]))
        if accumulates and any(_has_repeats(index) for index in args[1] if index is not None):
            self.found.append(f"{name} {tuple(args[0].shape)}")
        return func(*args, **kwargs)


def _has_repeats(index: Tensor) -> bool:
    """Whether one place is added to twice; what a mask selects is added to once, in whatever order."""
    return index.dtype != torch.bool and len(index.unique()) < index.numel()


@pytest.fixture
def deterministic() -> Iterator[None]:
    """torch raises where it knows that an op has no deterministic form."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("num_stages", [0, 1, 2])
@pytest.mark.usefixtures("deterministic")
def test_no_op_of_an_update_adds_in_an_order_of_chance(num_stages: int) -> None:
    model, ratios = make_model(num_stages), TARGET_RATIOS[num_stages]
    optimizer = build_optimizer(model, OptimizerConfig(), ratios)
    with AccumulatingOps() as ops:
        result = update(
            model,
            optimizer,
            [make_batch([60, 1, 40])],
            [RatioLoss(tuple(ratios), False, weight=0.03)],
            1.0,
            torch.float32,
            ALONE,
        )
    assert result.applied
    assert ops.found == []


@contextlib.contextmanager
def busy_processes() -> Iterator[None]:
    """As many as keep every core of a small machine from us now and then."""
    program = "while True: sum(i * i for i in range(10_000))"
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(NUM_BUSY)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def large_run(folder: Path, name: str) -> RunConfig:
    """A run whose gradients are large enough for torch to sum them in several threads: above 32,768 numbers."""
    return run_config(
        folder,
        name=name,
        run={"num_steps": NUM_STEPS},
        data={"tokens_per_batch": 1200, "max_length": 400, "shuffle_bytes": 5_000},
        checkpoints={"every": 100},
    )


@pytest.mark.long
@pytest.mark.scaled
@pytest.mark.usefixtures("two_threads")
def test_the_same_run_gives_the_same_bits_beside_busy_processes(tmp_path: Path) -> None:
    """Twice, the second time with a stop in the middle; two threads, whoever gets the cores."""
    write_corpus(tmp_path / "corpus.jsonl", num_documents=200)
    stop = Listener(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == NUM_STEPS // 2 else None)
    with busy_processes():
        train(large_run(tmp_path, "first"))
        assert train(large_run(tmp_path, "stopped"), stop).step < NUM_STEPS
        train(large_run(tmp_path, "stopped"))
    first = numbers(tmp_path / "first")
    assert len(first) == NUM_STEPS
    wanted = weights(tmp_path / "first")
    found = weights(tmp_path / "stopped")
    assert numbers(tmp_path / "stopped") == first
    assert all(found[key].equal(weight) for key, weight in wanted.items())


def numbers(run: Path) -> list[dict[str, Any]]:
    """The records without what depends on the clock."""
    timed = ("bytes_per_second", "matmul_utilization")
    return [{key: value for key, value in record.items() if key not in timed} for record in updates(run)]
