"""Every op on every backend it has: its forward pass, and forward and backward together.

`reference` runs on a short piece only: it is there to be obvious, not fast. The part of a layout that layers share is
made once, as in a model. A backend that cannot run here is listed with its reason.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import FORWARD_AND_BACKWARD as FLOPS_OF_BOTH
from hnet_lm.ops.dispatch import ANY_DEVICE, PREFERENCES, Op
from speed.op_cases import OpCase, op_cases
from speed.settings import Settings
from speed.timing import in_turn

REFERENCE = "reference"
REFERENCE_LENGTH = 128
PASSES = FORWARD, BOTH = "forward", "forward_and_backward"


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    """A row per op and backend, with an entry per pass."""
    config, sizes = HNetConfig.load(settings.model), settings.training
    rows = []
    for case in op_cases(config, sizes.num_sequences, sizes.length, device):
        rows += _measure(case, [name for name in _backends(case, device) if name != REFERENCE], settings.rounds, device)
    for case in op_cases(config, 1, REFERENCE_LENGTH, device):
        rows += _measure(case, [REFERENCE], settings.rounds, device)
    return {"rows": rows}


def _backends(case: OpCase, device: torch.device) -> list[str]:
    """Those meant for this device."""
    meant = (*PREFERENCES.get(device.type, ANY_DEVICE), REFERENCE)
    return [name for name in Op(f"hnet_lm.ops.{case.op}").available() if name in meant]


def _measure(case: OpCase, backends: Sequence[str], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    about = {"op": case.name, "shape": case.shape, "positions": case.num_positions}
    flops = None if case.flops is None else FLOPS_OF_BOTH * case.flops
    passes = {
        FORWARD: _measure_pass(partial(_forward, case), backends, case.flops, rounds, device),
        BOTH: _measure_pass(partial(_forward_and_backward, case), backends, flops, rounds, device),
    }
    return [{**about, "backend": name, **{key: found[name] for key, found in passes.items()}} for name in backends]


def _measure_pass(
    run: Callable[[str], None], backends: Sequence[str], flops: float | None, rounds: int, device: torch.device
) -> dict[str, dict[str, Any]]:
    """The timing of every backend, or why there is none."""
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
