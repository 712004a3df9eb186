"""The reference of every op, differentiated numerically in float64: each input, the initial state, the final state."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_cases import OpCase, attention_case, boundary_prob_case, conv_case, ema_case, ssd_case

LENGTHS, SLOTS, NUM_SLOTS = (2, 0, 1, 4), (4, 1, 0, 3), 5
CASES = (
    ema_case(d=1),
    ssd_case(p=1, n=2),
    conv_case(width=3, d=2),
    *(attention_case(window, h=1, p=2, entries=6) for window in (-1, 0, 2, 9)),
    boundary_prob_case(d=3),
)


@pytest.mark.parametrize("with_state", [False, True], ids=["no state", "state"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_stateful_ops(case: OpCase, with_state: bool) -> None:
    inputs = case.inputs(sum(LENGTHS))
    state = case.new_state(NUM_SLOTS) if with_state else {}
    seqs = Sequences.from_lengths(LENGTHS, torch.tensor(SLOTS) if with_state else None)
    leaves = [value.double().requires_grad_() for value in (inputs | state).values()]

    def function(*leaves: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(inputs | state, leaves, strict=True))
        carried = {key: named.pop(key) for key in state}
        y, final = case.apply(named, seqs, case.as_state(carried) if with_state else None, "reference")
        final_tensors = case.as_tensors(final).values() if with_state else ()
        return y, *(value for value in final_tensors if value.is_floating_point())

    assert gradcheck(function, leaves)


def test_select_chunks() -> None:
    is_boundary = torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    seqs = Sequences.from_lengths(LENGTHS)
    assert gradcheck(lambda x: select_chunks(x, is_boundary, seqs, backend="reference")[0], [x])
