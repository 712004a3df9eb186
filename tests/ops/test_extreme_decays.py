"""Decays at both ends of what is possible: nothing overflows, nothing is lost, gradients stay finite."""

import pytest
import torch
from op_runs import backends, require_backend
from torch import Tensor

from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_backend import assert_same, run
from hnet_lm.testing.op_cases import OpCase, Tensors, ema_case, ssd_case

LENGTHS = (200, 1, 130)

EMA = {
    "barely a trace of each input": (1e-4, 2e-4),
    "barely a trace of the past": (1 - 2e-4, 1 - 1e-4),
    "either end": (1e-4, 1 - 1e-4),
}
SSD = {
    "everything forgotten": (50.0, 500.0),
    "almost nothing forgotten": (1e-9, 1e-7),
    "half forgotten": (0.05, 0.5),
}


def check(case: OpCase, backend: str, change: dict[str, Tensor], atol: float) -> None:
    require_backend(case.name, backend)
    inputs: Tensors = case.inputs(sum(LENGTHS)) | change
    state = case.new_state(len(LENGTHS))
    seqs = Sequences.from_lengths(LENGTHS)
    actual = run(case, backend, inputs, seqs, state)
    assert all(value.isfinite().all() for value in actual.values())
    assert_same(actual, run(case, "reference", inputs, seqs, state, lambda _, value: value.double()), atol)


@pytest.mark.parametrize("backend", backends("ema_scan"))
@pytest.mark.parametrize("ends", EMA.values(), ids=EMA.keys())
def test_ema_scan(ends: tuple[float, float], backend: str) -> None:
    case = ema_case()
    p = torch.tensor(ends)[torch.randint(2, (sum(LENGTHS),))]
    check(case, backend, {"p": p}, 1e-5)


@pytest.mark.parametrize("backend", backends("ssd"))
@pytest.mark.parametrize("ends", SSD.values(), ids=SSD.keys())
def test_ssd(ends: tuple[float, float], backend: str) -> None:
    check(ssd_case(*ends), backend, {}, 5e-5)


@pytest.mark.parametrize("backend", backends("ssd"))
def test_ssd_remembers_after_it_forgot(backend: str) -> None:
    """A position that forgets everything must not take many digits of what comes after it in the same block.

    A running sum of dt A within a block reaches -640 here, where float32 is spaced by 6e-5: a relative error of that
    size in the decays behind it is what a backend may show, and no more.
    """
    case = ssd_case()
    dt = torch.empty(sum(LENGTHS), 2).uniform_(1e-3, 1e-2)
    dt[::40] = 20.0
    check(case, backend, {"dt": dt}, 2e-4)
