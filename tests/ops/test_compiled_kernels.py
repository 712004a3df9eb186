"""Machine code for GPUs that are not here: kernels fit, spill nothing and multiply with the tensor cores."""

from functools import cache
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

from hnet_lm.config import HNetConfig
from hnet_lm.ops.ssd._kernels import TILE
from hnet_lm.testing.kernel_compiler import Compiled, compiled, model_launches, name
from thoroughness import is_thorough

TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942") if is_thorough() else ("sm_90",)
MODELS = ("hnet_1stage_L", "hnet_2stage_XL")
ON_CUDA_CORES = {"ema_scan.positions", "ema_scan.positions reverse"}
"""These multiply in float32, digit for digit."""


@cache
def launches() -> dict[str, Any]:
    """By kernel and variant, of both models."""
    found = [each for model in MODELS for each in model_launches(HNetConfig.load(model))]
    return {f"{name(each)} {sorted(each.options.items())}": each for each in found}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_at_the_sizes_of_published_models(target: str) -> None:
    """Of the configurations that are tried at least one is good; the others may be better on another card."""
    assert len({name(each) for each in launches().values()}) > 20
    for launch in launches().values():
        tried = list(compiled(launch, target, every=is_thorough()))
        assert any(is_good(each) for each in tried), tried


def is_good(each: Compiled) -> bool:
    on_tensor_cores = each.uses_tensor_cores or not each.multiplies or each.kernel in ON_CUDA_CORES
    return each.fits and not each.spilled and on_tensor_cores


def test_blocks_are_whole_tiles() -> None:
    assert all(each.options["TILE"] == TILE for each in launches().values() if "TILE" in each.options)
