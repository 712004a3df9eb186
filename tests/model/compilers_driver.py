"""Compiles and exports small models, and writes what came out as JSON. `compilers_driver.py [thorough]`.

A process of its own: the shape-checking hook of the tests would stand between the compiler and the code. What takes
longest is left to the thorough run: ahead-of-time dispatch of every op by itself, and the C++ of inductor.
"""

import json
import logging
import sys
from typing import Any

import plain_models
import torch
from torch import Tensor
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences

LENGTHS = (10, 30)
IS_THOROUGH = sys.argv[1:] == ["thorough"]
OP_CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")
BACKENDS = ("aot_eager", "inductor") if IS_THOROUGH else ("aot_eager",)


class Recorder(TorchDispatchMode):
    """The arguments of the first call of each op of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Any, tuple[Any, ...]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "hnet_lm":
            self.calls.setdefault(func, args)
        return func(*args, **(kwargs or {}))


def checked_ops(model: HNetLM, ids: Tensor) -> list[str]:
    """Names of the custom ops that a training step calls, with and without a state. Each passes torch's own checks with
    the arguments it had there: schema, autograd registration, fake tensors, and, if thorough, ahead-of-time dispatch.
    """
    with Recorder() as recorder:
        for state in (None, model.new_state(len(LENGTHS))):  # with one, a mixer's parts are ops of their own
            model(ids, Sequences.from_lengths(LENGTHS), state).logits.square().sum().backward()
    for op, arguments in recorder.calls.items():
        is_forward = not op.name().endswith("_backward")

        def leaf(x: Any, is_forward: bool = is_forward) -> Any:
            if not isinstance(x, Tensor):
                return x
            return x.detach().clone().requires_grad_(is_forward and x.is_floating_point())

        checks = (*OP_CHECKS, "test_aot_dispatch_dynamic") if IS_THOROUGH else OP_CHECKS
        opcheck(op, tuple(map(leaf, arguments)), test_utils=checks)
    return sorted(op.name() for op in recorder.calls)


def difference(actual: Tensor, expected: Tensor) -> float:
    return (actual - expected).abs().max().item()


@torch.no_grad()
def compiled_main_network(ids: Tensor) -> dict[str, float]:
    """How far logits are from those of the model as it is; the innermost stack is what takes the time."""
    seqs, differences = Sequences.from_lengths(LENGTHS), {}
    for backend in BACKENDS:
        model = plain_models.hnet()
        expected = model(ids, seqs).logits
        model.network.main_network = torch.compile(model.network.main_network, backend=backend)
        differences[backend] = difference(model(ids, seqs).logits, expected)
    return differences


def trained_main_network(ids: Tensor) -> float:
    """How far gradients through a compiled network are from those of the model as it is."""
    gradients = []
    for is_compiled in (False, True):
        model = plain_models.isotropic()
        if is_compiled:
            model.network.compile(backend="aot_eager", fullgraph=True)
        model(ids, Sequences.from_lengths(LENGTHS)).logits.square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    return max(difference(a, b) for a, b in zip(*gradients, strict=True))


@torch.no_grad()
def exported(ids: Tensor) -> float:
    model, rows = plain_models.isotropic(), ids.view(2, -1)
    program = torch.export.export(model, (rows,))
    return difference(program.module()(rows).logits, model(rows).logits)


@torch.no_grad()
def graph_breaks(model: Any, x: Tensor) -> int:
    model(x, Sequences.from_lengths(LENGTHS))  # backends are loaded at their first use
    torch._dynamo.reset()
    return torch._dynamo.explain(model)(x, Sequences.from_lengths(LENGTHS)).graph_break_count


def main() -> None:
    torch.set_num_threads(1)
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    torch.manual_seed(0)
    ids = torch.randint(254, (sum(LENGTHS),))
    model = plain_models.hnet()
    results = {
        "ops": checked_ops(model, ids),
        "trained": trained_main_network(ids),
        "compiled": compiled_main_network(ids),
        "exported": exported(ids),
        "breaks": {"isotropic": graph_breaks(plain_models.isotropic().network, torch.randn(len(ids), 32))}
        | {"one stage": graph_breaks(model, ids)},
    }
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
