"""The one place where a backend is chosen: by argument, for a block, for one op; never in silence."""

import pkgutil
from pathlib import Path

import pytest
import torch

from hnet_lm import ops
from hnet_lm.ops import ema_scan, use_backend
from hnet_lm.ops.dispatch import DEFAULT, DEFAULTS, Op
from hnet_lm.sequences import Sequences

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LOOPS = (
    "ssd",
    "causal_conv",
    "rms_norm",
    "linear",
    "gated_mlp",
    "mamba2",
    "self_attention",
    "residual_layers",
    "boundary_prob",
)
"""What has compiled loops for the CPU."""
OPS = ("ema_scan", "attention", "select_chunks", *LOOPS)


def op(name: str) -> Op:
    return Op(f"hnet_lm.ops.{name}")


def test_all_ops_are_tested() -> None:
    assert {module.name for module in pkgutil.iter_modules(ops.__path__) if module.ispkg} == set(OPS)


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_reference_and_the_default(name: str) -> None:
    assert {"reference", DEFAULT} <= set(op(name).available())


@pytest.mark.parametrize("name", OPS)
def test_each_backend_file_is_one_without_registration(name: str) -> None:
    folder = Path(__file__).parents[2] / "src" / "hnet_lm" / "ops" / name
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert set(op(name).available()) == files


@pytest.mark.parametrize("name", OPS)
def test_an_unknown_backend_is_an_error_that_names_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=rf"op {name} has no backend 'cuda9'; it has .*reference"):
        op(name).backend("cuda9", CPU)


@pytest.mark.parametrize("name", LOOPS)
def test_compiled_loops_refuse_other_memory_than_the_cpus(name: str) -> None:
    with pytest.raises(ValueError, match=rf"op {name}: the backend 'numba' does not run on a device of type 'cuda'"):
        op(name).backend("numba", CUDA)


def test_an_unknown_backend_by_argument_and_by_context() -> None:
    inputs = torch.zeros(2, 1), torch.full((2,), 0.5), Sequences.from_lengths([2])
    with pytest.raises(ValueError, match="ema_scan has no backend 'fast'"):
        ema_scan(*inputs, backend="fast")
    with use_backend("fast"), pytest.raises(ValueError, match="ema_scan has no backend 'fast'"):
        ema_scan(*inputs)
    with use_backend(ema_scan="fast"), pytest.raises(ValueError, match="ema_scan has no backend 'fast'"):
        ema_scan(*inputs)


def module_of(name: str, backend: str | None = None) -> str:
    return op(name).backend(backend, CPU).__module__


@pytest.mark.parametrize("name", OPS)
def test_the_default_is_that_of_the_device_where_the_op_has_it(name: str) -> None:
    has_loops = DEFAULTS["cpu"] in op(name).available()
    assert op(name).default(CPU) == (DEFAULTS["cpu"] if has_loops else DEFAULT)
    assert op(name).default(CUDA) == DEFAULT
    assert has_loops == (name in LOOPS)


def test_the_nearest_choice_wins() -> None:
    assert module_of("ssd") == "hnet_lm.ops.ssd.numba"
    with use_backend("reference"):
        assert module_of("ssd") == "hnet_lm.ops.ssd.reference"
        assert module_of("ssd", "torch") == "hnet_lm.ops.ssd.torch"
        with use_backend(ssd="torch"):
            assert module_of("ssd") == "hnet_lm.ops.ssd.torch"
            assert module_of("ema_scan") == "hnet_lm.ops.ema_scan.reference"
        assert module_of("ssd") == "hnet_lm.ops.ssd.reference"
    assert module_of("ssd") == "hnet_lm.ops.ssd.numba"


def test_a_choice_ends_with_its_block_also_by_an_error() -> None:
    with pytest.raises(RuntimeError), use_backend("reference"):
        raise RuntimeError
    assert module_of("ssd") == "hnet_lm.ops.ssd.numba"
