"""Each kernel against the float64 reference: outputs, all gradients, final states; ragged, with states and without."""

import pytest
import torch
from torch import Tensor

import hnet_lm.ops.ssd.triton as ssd_backend
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_backend import assert_same, run
from hnet_lm.testing.op_cases import (
    STATELESS_CASES,
    OpCase,
    boundary_prob_case,
    conv_case,
    ema_case,
    ssd_case,
)

ENDS = (0, 1, 63, 64, 65)
"""Lengths on either side of a tile."""
MANY = tuple((7 * i) % 19 for i in range(20))
"""A pack of twenty sequences."""
FLOAT16_ATOL = 4e-3

STATELESS = [case for case in STATELESS_CASES if "triton" in Op(f"hnet_lm.ops.{case.name}").available()]
WITH_STATE = [boundary_prob_case(), conv_case(4), ema_case()]
WIDER = [conv_case(1), conv_case(3, d=70), ema_case(d=70)]
"""Than a tile; and of one tap."""


def check(case: OpCase, lengths: tuple[int, ...], dtype: torch.dtype, *, with_state: bool) -> None:
    """`dtype` is that of what a model would compute in it; the rest stays in float32."""
    inputs, state = case.inputs(sum(lengths)), case.new_state(len(lengths) + 2) if with_state else None
    slots = torch.randperm(len(lengths) + 2)[: len(lengths)] if with_state else None
    seqs = Sequences.from_lengths(lengths, slots)

    def rounded(key: str, value: Tensor) -> Tensor:
        is_wide = key in case.wide or key == "state"
        return value.to(torch.promote_types(dtype, torch.float32) if is_wide else dtype)

    actual = run(case, "triton", inputs, seqs, state, rounded)
    expected = run(case, "reference", inputs, seqs, state, lambda key, value: rounded(key, value).double())
    atol = {torch.float64: 1e-11, torch.float32: case.float32_atol}.get(dtype, FLOAT16_ATOL)
    assert_same(actual, expected, atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("case", STATELESS, ids=str)
def test_without_a_state(case: OpCase, dtype: torch.dtype) -> None:
    check(case, (0, 1, 63, 300), dtype, with_state=False)


@pytest.mark.parametrize("lengths", [ENDS, MANY], ids=["around a tile", "twenty sequences"])
@pytest.mark.parametrize("case", WITH_STATE, ids=str)
def test_with_a_state(case: OpCase, lengths: tuple[int, ...]) -> None:
    check(case, lengths, torch.float32, with_state=lengths == ENDS)


@pytest.mark.parametrize("case", [*WITH_STATE, *WIDER], ids=str)
def test_in_half_precision(case: OpCase) -> None:
    check(case, (20, 0, 3), torch.float16, with_state=True)


@pytest.mark.parametrize("case", [conv_case(4, d=2), ema_case()], ids=str)
def test_a_long_sequence(case: OpCase) -> None:
    check(case, (1000,), torch.float32, with_state=False)


@pytest.mark.parametrize(
    ("lengths", "dtype", "with_state", "tile", "block"),
    [
        (ENDS, torch.float32, True, 64, 64),
        (ENDS, torch.float16, False, 64, 128),
        ((40, 0, 17), torch.float16, True, 16, 32),
        ((1, 40, 70), torch.float64, True, 16, 64),
    ],
)
def test_ssd(
    lengths: tuple[int, ...],
    dtype: torch.dtype,
    with_state: bool,
    tile: int,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ssd_backend, "TILE", tile)
    monkeypatch.setattr(ssd_backend, "SMALL_BLOCK_SIZE", block)
    check(ssd_case(h=2, p=8, n=4), lengths, dtype, with_state=with_state)


@torch.no_grad()
def test_ssd_of_one_position_per_sequence() -> None:
    case, seqs = ssd_case(h=2, p=8, n=5), Sequences.from_lengths([1, 0, 1, 1], torch.tensor([3, 1, 0, 4]))
    inputs, state = case.inputs(3), case.new_state(5)
    results = [case.apply(inputs, seqs, state["h"].clone(), backend) for backend in ("triton", "reference")]
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_ssd_of_twenty_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssd_backend, "TILE", 16)
    monkeypatch.setattr(ssd_backend, "SMALL_BLOCK_SIZE", 16)
    check(ssd_case(h=1, p=3, n=5), MANY, torch.float32, with_state=True)


def test_ssd_of_a_long_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of the size that training uses."""
    monkeypatch.setattr(ssd_backend, "FEW_POSITIONS", 0)
    check(ssd_case(h=1), (1000,), torch.float32, with_state=False)
