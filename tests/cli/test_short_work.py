"""What a short text is read by."""

import pytest
import torch

import hnet_lm
from hnet_lm.cli.short_work import FEW_BYTES, backends_for
from hnet_lm.generation.stepper import CpuStepper, PlainStepper, build_stepper
from hnet_lm.ops.dispatch import Op, use_backend


def test_a_short_text_needs_no_compiled_loop(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = hnet_lm.load(saved)
    ids = torch.zeros(3, dtype=torch.int64)
    norm = Op("hnet_lm.ops.rms_norm").load("cpu")
    calls: list[int] = []
    plain = norm.rms_norm
    monkeypatch.setattr(norm, "rms_norm", lambda *arguments: calls.append(1) or plain(*arguments))
    with backends_for(model, FEW_BYTES):
        assert type(build_stepper(model, 1)) is PlainStepper
        short = model(ids).logits
    assert not calls
    with backends_for(model, FEW_BYTES + 1):
        assert type(build_stepper(model, 1)) is CpuStepper
        torch.testing.assert_close(model(ids).logits, short, atol=1e-4, rtol=0)
    assert calls


def test_a_choice_of_the_user_stays(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = Op("hnet_lm.ops.rms_norm").load("reference")
    calls: list[int] = []
    plain = norm.rms_norm
    monkeypatch.setattr(norm, "rms_norm", lambda *arguments: calls.append(1) or plain(*arguments))
    model = hnet_lm.load(saved)
    with use_backend(rms_norm="reference"), backends_for(model, 1):
        model(torch.zeros(3, dtype=torch.int64))
    assert calls
