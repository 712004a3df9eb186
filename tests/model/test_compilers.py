"""torch.compile, torch.export, FLOP counters and autocast know the model and its ops."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import plain_models
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hnet_lm.model.flops import forward_flops_per_byte
from thoroughness import is_thorough

pytestmark = [pytest.mark.scaled, pytest.mark.long]

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "compilers.md"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(HERE / "compilers_driver.py"), *(["thorough"] if is_thorough() else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_custom_op_passes_torchs_checks(results: dict[str, Any]) -> None:
    plain_models.hnet()  # a model loads the backends that its device prefers
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("hnet_lm::")}
    assert {"hnet_lm::ssd_cpu", "hnet_lm::causal_conv_cpu", "hnet_lm::rms_norm_cpu"} <= registered
    assert set(results["ops"]) == {name for name in registered if "_triton" not in name}  # those run on a GPU


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.thorough)])
def test_a_compiled_main_network_gives_the_same_logits(results: dict[str, Any], backend: str) -> None:
    assert results["compiled"][backend] < 1e-4


def test_a_network_compiled_as_one_graph_gives_the_same_gradients(results: dict[str, Any]) -> None:
    assert results["trained"] < 1e-5


def test_an_exported_isotropic_model_gives_the_same_logits(results: dict[str, Any]) -> None:
    assert results["exported"] < 1e-5


def test_graph_breaks_are_those_documented(results: dict[str, Any]) -> None:
    documented = dict(re.findall(r"^\| (isotropic|one stage) \| (\d+) \|", DOCS.read_text(), re.MULTILINE))
    assert results["breaks"] == {name: int(number) for name, number in documented.items()}


def test_a_flop_counter_counts_compiled_loops_as_the_formulas_do() -> None:
    """All but the embedding, which moves rows, and the gates, which are no products: 5 per number."""
    model, length = plain_models.lively(plain_models.config_of(["m1M1"], (32,))), 40
    ids = torch.randint(254, (length,))
    with FlopCounterMode(display=False) as forward:
        loss = model(ids).logits.sum()
    stage, (d, d_inner) = model.config.stages[0], (32, 4 * 32)
    expected = sum(forward_flops_per_byte(model.config, [], length).values()) * length
    expected -= 2 * length * 256 * d + 2 * 5 * length * d_inner + 5 * length * stage.d_model
    assert forward.get_total_flops() == expected
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    assert backward.get_total_flops() == 2 * expected


def test_autocast_reaches_every_op_and_leaves_logits_nearly_the_same() -> None:
    model, ids = plain_models.isotropic(), torch.randint(254, (40,))
    expected = model(ids).logits
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.1)
    logits.float().square().mean().backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters()
    )
