"""What every test runs under: the shapes of hnet_lm checked on each call, one thread, fixed seeds."""

import os
import sys

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, register_random, settings

assert "hnet_lm" not in sys.modules, "the hook checks only what is imported after it"
jaxtyping.install_import_hook("hnet_lm", "shape_checks.check")

torch.set_num_threads(1)

settings.register_profile(
    "few",
    deadline=None,
    max_examples=15,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],  # says more about the machine than about a test
)
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
