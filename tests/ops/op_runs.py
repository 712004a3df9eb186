"""On which backends the cases are run. They are found in the ops' folders; a new backend file is tested without a word
here. Those of GPUs are tested in `interpreted/` and in `tests/gpu`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch

from hnet_lm.ops.dispatch import LIBRARIES, Op
from hnet_lm.testing.op_cases import OpCase, conv_case, ssd_case
from thoroughness import is_thorough


def backends(name: str) -> list[str]:
    """Every backend file in the op's folder that runs on the CPU."""
    return [backend for backend in Op(f"hnet_lm.ops.{name}").available() if backend not in LIBRARIES]


def with_backends(cases: Iterable[OpCase], *, except_for: str = "") -> pytest.MarkDecorator:
    """Each case with each backend of its op, as the arguments `case` and `backend`."""
    pairs = [(case, backend) for case in cases for backend in backends(case.name) if backend != except_for]
    return pytest.mark.parametrize(("case", "backend"), pairs, ids=str)


def require_backend(name: str, backend: str) -> None:
    """Skip where what a backend builds upon is not installed."""
    try:
        Op(f"hnet_lm.ops.{name}").load(backend)
    except ImportError as error:
        pytest.skip(str(error))


def leave_out_if_rare(case: OpCase, backend: str, dtype: torch.dtype) -> None:
    """Skip, but for float64 and in the thorough run, sizes that no model has and that machine code is made for."""
    is_rare = str(case) in [str(ssd_case(p=3, n=4)), str(conv_case(1)), str(conv_case(3, d=130))]
    if is_rare and backend == "cpu" and dtype != torch.float64 and not is_thorough():
        pytest.skip("sizes that no model has are tried in float64 alone")


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Within the block, work may be divided among so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
