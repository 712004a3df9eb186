"""Each op on the GPU against the float64 reference on the CPU: outputs, all gradients, final states."""

import pytest
import torch
from torch import Tensor

from hnet_lm.ops.dispatch import PREFERENCES, Op
from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_backend import NUM_SLOTS, RAGGED, SLOTS, assert_same, run
from hnet_lm.testing.op_cases import CASES, STATELESS_CASES, OpCase, attention_case, ssd_case

ALL = (*CASES, *STATELESS_CASES, ssd_case(h=3, p=64, n=128), attention_case(-1, p=64), attention_case(7, p=64))
LONG = (5000, 0, 1, 3000)
PAIRS = [
    (case, backend)
    for case in ALL
    for backend in PREFERENCES["cuda"]
    if backend in Op(f"hnet_lm.ops.{case.name}").available()
]

pytestmark = pytest.mark.parametrize(("case", "backend"), PAIRS, ids=str)


def check(case: OpCase, backend: str, lengths: tuple[int, ...], dtype: torch.dtype, with_state: bool) -> None:
    slots = torch.tensor(SLOTS[: len(lengths)]) if with_state else None
    inputs, state = case.inputs(sum(lengths)), case.new_state(NUM_SLOTS) if with_state else None
    seqs = Sequences.from_lengths(lengths, slots)
    on_gpu = Sequences.from_lengths(lengths, None if slots is None else slots.cuda(), "cuda")

    def rounded(key: str, value: Tensor) -> Tensor:
        is_wide = key in case.wide or key == "state"
        return value.to(torch.promote_types(dtype, torch.float32) if is_wide else dtype)

    try:
        actual = run(case, backend, inputs, on_gpu, state, lambda key, value: rounded(key, value).cuda())
    except ValueError as error:
        pytest.skip(str(error))
    expected = run(case, "reference", inputs, seqs, state, lambda key, value: rounded(key, value).double())
    assert_same(actual, expected, case.float32_atol if dtype == torch.float32 else case.bfloat16_atol)


@pytest.mark.parametrize("with_state", [False, True], ids=["no state", "state"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_ragged(case: OpCase, backend: str, dtype: torch.dtype, with_state: bool) -> None:
    check(case, backend, RAGGED, dtype, with_state)


def test_long(case: OpCase, backend: str) -> None:
    """Of more blocks than fit side by side; in bfloat16, as in training."""
    if case.name == "attention" and backend == "eager":
        pytest.skip("its reference takes minutes")
    check(case, backend, LONG, torch.bfloat16, False)
