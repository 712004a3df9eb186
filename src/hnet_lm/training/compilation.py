"""Blocks under torch.compile: what is between the mixers becomes few kernels, for rows of any number.

A mixer itself is called as it is: its ops are kernels or compiled loops already, and it reads the lengths of sequences,
which a compiler takes for constants. A module is compiled in place, so names of parameters, checkpoints, hooks and
FSDP's groups stay what they are. The first steps wait for the compiler.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from hnet_lm.errors import ConfigError
from hnet_lm.model.block import Block, called

MOST_GRAPHS = 64
"""Of all blocks together, before torch gives up on compiling more: one per kind of block and width, with gradients and
without, and for single rows."""


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """From now on every block of the model is compiled where it is called. Raises ConfigError: torch cannot do that."""
    _require_compiler(next(model.parameters()).device, backend)
    limit = {"recompile_limit": MOST_GRAPHS} if "recompile_limit" in inspect.signature(torch.compile).parameters else {}
    uncompiled: Any = torch.compiler.disable(called)
    for module in model.modules():
        if isinstance(module, Block):
            module.call_mixer = uncompiled
            module.compile(dynamic=True, backend=backend, **limit)


def _require_compiler(device: torch.device, backend: str) -> None:
    """Try it: what a compiler needs (a C++ compiler, headers, Triton) depends on the machine."""
    try:
        torch.compile(_trial, backend=backend)(torch.zeros(8, device=device if device.type != "meta" else "cpu"))
    except RuntimeError as error:
        reason = str(getattr(error, "inner_exception", error)).partition("\n")[0]
        advice = "leave it out, or install what is missing"
        raise ConfigError(f"run.compile: torch cannot compile here ({reason}); {advice}") from error


def _trial(x: Tensor) -> Tensor:
    return torch.nn.functional.silu(x) * x
