"""Every op on every backend it has: its forward pass, and forward and backward together.

`reference` runs on a short piece only: it is there to be obvious, not fast. What layers share of a layout is made once,
as in a model. Of a backend that cannot run here stands what it says.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import FORWARD_AND_BACKWARD
from hnet_lm.ops.dispatch import Op
from speed.op_cases import OpCase, op_cases
from speed.settings import Settings
from speed.timing import in_turn

REFERENCE = "reference"
REFERENCE_LENGTH = 128
PASSES = ("forward", "forward_and_backward")


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    """A row an op and backend, in it an entry of each pass."""
    config, sizes = HNetConfig.load(settings.model), settings.training
    rows = []
    for case in op_cases(config, sizes.num_sequences, sizes.length, device):
        rows += _measure(case, _fast_backends(case), settings.rounds, device)
    for case in op_cases(config, 1, REFERENCE_LENGTH, device):
        rows += _measure(case, [REFERENCE], settings.rounds, device)
    return {"rows": rows}


def _fast_backends(case: OpCase) -> list[str]:
    return [name for name in Op(f"hnet_lm.ops.{case.op}").available() if name != REFERENCE]


def _measure(case: OpCase, backends: Sequence[str], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    about = {"op": case.name, "shape": case.shape, "positions": case.num_positions}
    forward = _measure_pass(partial(_forward, case), backends, case.flops, rounds, device)
    all_flops = None if case.flops is None else FORWARD_AND_BACKWARD * case.flops
    both = _measure_pass(partial(_forward_and_backward, case), backends, all_flops, rounds, device)
    return [
        {**about, "backend": name, **dict(zip(PASSES, (forward[name], both[name]), strict=True))} for name in backends
    ]


def _measure_pass(
    run: Callable[[str], None], backends: Sequence[str], flops: float | None, rounds: int, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Of every backend its timing, or why there is none."""
    calls: dict[str, Callable[[], None]] = {}
    found: dict[str, dict[str, Any]] = {}
    for backend in backends:
        try:
            run(backend)
        except (ImportError, RuntimeError, ValueError) as error:
            found[backend] = {"error": str(error)}
        else:
            calls[backend] = partial(run, backend)
    timings = in_turn(calls, rounds, device)
    return found | {backend: {"flops": flops, **timing} for backend, timing in timings.items()}


def _forward(case: OpCase, backend: str) -> None:
    with torch.no_grad():
        case.run(backend)


def _forward_and_backward(case: OpCase, backend: str) -> None:
    y = case.run(backend)
    torch.autograd.grad(y, case.inputs, torch.ones_like(y))
