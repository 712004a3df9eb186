"""The compiled scan goes over long sequences piece by piece, which changes nothing."""

import importlib

import pytest
import torch
from op_runs import threads

from hnet_lm.testing.op_backend import NUM_SLOTS, RAGGED, assert_same, ragged, run
from hnet_lm.testing.op_cases import ssd_case


@pytest.mark.parametrize("with_state", [False, True], ids=["no state", "state"])
@pytest.mark.parametrize("piece", [1, 7, 64])
def test_pieces_of_any_size(piece: int, with_state: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sequences shorter than a piece, as long as one or several, and empty ones: output, state, all gradients."""
    case = ssd_case()
    inputs, state = case.inputs(sum(RAGGED)), case.new_state(NUM_SLOTS) if with_state else None
    wanted = run(case, "reference", inputs, ragged(with_state), state, lambda _, value: value.double())
    monkeypatch.setattr(importlib.import_module("hnet_lm.ops.ssd.cpu"), "PIECE", piece)
    with threads(2):
        actual = run(case, "cpu", inputs, ragged(with_state), state, lambda _, value: value.double())
    assert all(value.dtype == torch.float64 for value in actual.values())
    assert_same(actual, wanted, 1e-10)
