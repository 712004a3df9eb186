"""What every test runs under: the shapes of hnet_lm checked on each call, one thread, fixed seeds.

Tests marked `thorough` run only with `--hypothesis-profile=thorough` (see `thoroughness`).
"""

import os
import sys

import pytest
import torch
from hypothesis import HealthCheck, register_random, settings

import shape_checks
from thoroughness import MORE_EXAMPLES, is_thorough

assert "hnet_lm" not in sys.modules, "the hook checks only what is imported after it"
shape_checks.install("hnet_lm")

torch.set_num_threads(1)

settings.register_profile(
    "few",
    deadline=None,
    max_examples=15,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],  # says more about the machine than about a test
)
settings.register_profile("thorough", settings.get_profile("few"), max_examples=15 * MORE_EXAMPLES)
settings.load_profile("few")


class _TorchRandom:
    """torch's global generator as Hypothesis takes it: seeded anew for every example."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


_torch_random = _TorchRandom()  # Hypothesis holds it weakly
register_random(_torch_random)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker begins one when the others are done."""
    left_out = [item for item in items if item.get_closest_marker("thorough") and not is_thorough()]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    chosen = [item for item in items if item not in left_out]
    items[:] = sorted(chosen, key=lambda item: item.path not in slow_files)
