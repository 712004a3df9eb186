"""One position at a time, as in decoding: the compiled step equals the reference, in slots that come and go."""

import pytest
import torch
from op_cases import OpCase, backends, mamba2_case
from torch import Tensor

from hnet_lm.sequences import Sequences

NUM_SLOTS = 6
STEPS = (((1, 1, 1), (4, 0, 2)), ((1, 0, 1), (0, 5, 4)), ((0, 0, 0), (1, 2, 3)), ((0, 1, 1), (4, 2, 0)))
"""Lengths, and the slots the sequences own, of a few steps."""

CASES = (mamba2_case(), mamba2_case(n=3), mamba2_case(width=1), mamba2_case(h=3, p=64, n=16))


@pytest.mark.parametrize("backend", backends("mamba2_inner"))
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-11), (torch.float32, 2e-5)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(sorted(case.shared()["conv_weight"].shape)))
def test_steps_equal_the_reference(case: OpCase, dtype: torch.dtype, atol: float, backend: str) -> None:
    inputs = {key: value.to(dtype) for key, value in case.inputs(sum(sum(lengths) for lengths, _ in STEPS)).items()}
    initial = {key: value.to(dtype) for key, value in case.new_state(NUM_SLOTS).items()}

    def run(backend: str, dtype: torch.dtype) -> list[Tensor]:
        state = case.as_state({key: value.to(dtype, copy=True) for key, value in initial.items()})
        results, row = [], 0
        for lengths, slots in STEPS:
            seqs = Sequences.from_lengths(lengths, torch.tensor(slots))
            part = case.of_rows({key: value.to(dtype) for key, value in inputs.items()}, slice(row, row + sum(lengths)))
            y, state = case.apply(part, seqs, state, backend)
            results.append(y)
            row += sum(lengths)
        return [*results, *state]

    with torch.no_grad():
        for actual, wanted in zip(run(backend, dtype), run("reference", torch.float64), strict=True):
            assert actual.dtype == dtype
            torch.testing.assert_close(actual.double(), wanted, rtol=0, atol=atol)


def test_every_sequence_owns_its_slot_where_none_is_named() -> None:
    case = mamba2_case()
    inputs, state = case.inputs(2), case.new_state(3)
    seqs = Sequences.from_lengths([1, 0, 1])
    with torch.no_grad():
        wanted, wanted_state = case.apply(
            inputs, seqs, case.as_state({k: v.clone() for k, v in state.items()}), "torch"
        )
        y, final = case.apply(inputs, seqs, case.as_state(state), "numba")
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-5)
    for actual, expected in zip(final, wanted_state, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_a_step_works_on_the_state_where_it_lies() -> None:
    """No copy of the state of many streams: the buffers returned are those passed."""
    case = mamba2_case()
    state = case.as_state(case.new_state(2))
    with torch.no_grad():
        _, final = case.apply(case.inputs(2), Sequences.from_lengths([1, 1]), state, "numba")
    assert [part.data_ptr() for part in final] == [part.data_ptr() for part in state]
