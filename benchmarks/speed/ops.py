"""Every op on every backend it has: its forward pass, and forward and backward together.

`reference` runs on a short piece only: it is there to be obvious, not fast. Ops of decoding one stream have no backward
pass. What layers share of a layout is made once, as in a model. Of a backend that cannot run here stands what it says.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import FORWARD_AND_BACKWARD as FLOPS_OF_BOTH
from hnet_lm.ops.dispatch import Op
from speed.op_cases import OpCase, decoding_op_cases, op_cases
from speed.settings import Settings
from speed.timing import in_turn

REFERENCE = "reference"
REFERENCE_LENGTH = 128
PASSES = FORWARD, BOTH = "forward", "forward_and_backward"


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    """A row an op and backend, in it an entry of each pass."""
    config, sizes = HNetConfig.load(settings.model), settings.training
    rows = []
    for case in op_cases(config, sizes.num_sequences, sizes.length, device):
        rows += _measure(case, [name for name in _backends(case) if name != REFERENCE], settings.rounds, device)
    for case in op_cases(config, 1, REFERENCE_LENGTH, device):
        rows += _measure(case, [REFERENCE], settings.rounds, device)
    for case in decoding_op_cases(config, device):
        rows += _measure(case, _backends(case), settings.rounds, device)
    return {"rows": rows}


def _backends(case: OpCase) -> list[str]:
    return Op(f"hnet_lm.ops.{case.op}").available()


def _measure(case: OpCase, backends: Sequence[str], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    about = {"op": case.name, "shape": case.shape, "positions": case.num_positions}
    passes = {FORWARD: _measure_pass(partial(_forward, case), backends, case.flops, rounds, device)}
    if case.inputs:
        flops = None if case.flops is None else FLOPS_OF_BOTH * case.flops
        passes[BOTH] = _measure_pass(partial(_forward_and_backward, case), backends, flops, rounds, device)
    return [{**about, "backend": name, **{key: found[name] for key, found in passes.items()}} for name in backends]


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
