"""The one place where a backend is chosen: by preference, by argument, for a block, for one op; with no fallback."""

import importlib
import threading
from pathlib import Path

import pytest
import torch

from hnet_lm.ops import dispatch
from hnet_lm.ops.dispatch import PREFERENCES, Op, op_names, remember_backends, use_backend
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.sequences import Sequences

CPU = torch.device("cpu")
OPS = (
    "attention",
    "boundary_prob",
    "causal_conv",
    "ema_scan",
    "mamba2",
    "rms_norm",
    "rotary",
    "select_chunks",
    "ssd",
    "swiglu",
)
COMPILED = ("causal_conv", "rms_norm", "ssd")
ON_GPU = ("boundary_prob", "causal_conv", "ema_scan", "mamba2", "rms_norm", "rotary", "ssd", "swiglu")
SSD = (
    torch.zeros(2, 1, 4),
    torch.ones(2, 1),
    -torch.ones(1),
    *(torch.zeros(2, 3) for _ in "BC"),
    torch.ones(1),
    Sequences.from_lengths([2]),
    None,
)
EMA = (torch.zeros(2, 1), torch.full((2,), 0.5), Sequences.from_lengths([2]), None)


def op(name: str) -> Op:
    return Op(f"hnet_lm.ops.{name}")


def chosen(name: str, backend: str | None = None) -> str:
    arguments = {"ssd": SSD, "ema_scan": EMA}[name]
    return op(name).choose(backend, CPU, *arguments).__name__.rpartition(".")[2]


def test_all_ops_are_tested() -> None:
    assert op_names() == list(OPS)


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_reference_and_one_for_any_device(name: str) -> None:
    assert {"reference", "eager"} <= set(op(name).available())
    assert ("cpu" in op(name).available()) == (name in COMPILED)
    assert ("triton" in op(name).available()) == (name in ON_GPU)


@pytest.mark.parametrize("name", OPS)
def test_each_backend_is_a_file_without_registration_that_defines_the_op(name: str) -> None:
    folder = Path(__file__).parents[2] / "src" / "hnet_lm" / "ops" / name
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert set(op(name).available()) == files
    for backend in files:
        if op(name).missing(backend) is not None:
            continue
        assert callable(getattr(op(name).load(backend), name))


@pytest.mark.parametrize("name", OPS)
def test_no_function_hides_its_package(name: str) -> None:
    package = importlib.import_module(f"hnet_lm.ops.{name}")
    assert getattr(importlib.import_module("hnet_lm.ops"), name) is package
    assert callable(getattr(package, name))


def test_the_first_preference_that_supports_the_call_wins() -> None:
    assert PREFERENCES["cpu"] == ("cpu", "eager")
    assert chosen("ssd") == "cpu"
    assert chosen("ema_scan") == "eager"
    half = tuple(x.half() if isinstance(x, torch.Tensor) else x for x in SSD)
    assert op("ssd").choose(None, CPU, *half).__name__ == "hnet_lm.ops.ssd.eager"


def test_a_named_backend_that_does_not_support_the_call_is_an_error_that_says_why() -> None:
    meta = tuple(x.to("meta") if isinstance(x, torch.Tensor) else x for x in SSD)
    with pytest.raises(ValueError, match="op ssd: the backend 'cpu' cannot do this: it runs on the CPU, not on meta"):
        op("ssd").choose("cpu", torch.device("meta"), *meta)
    half = tuple(x.half() if isinstance(x, torch.Tensor) else x for x in SSD)
    with use_backend(ssd="cpu"), pytest.raises(ValueError, match="the backend 'cpu' cannot do this: it knows"):
        op("ssd").choose(None, CPU, *half)


def test_unknown_backends_and_ops() -> None:
    with pytest.raises(ValueError, match="op ema_scan has no backend 'fast'; there are eager, reference"):
        ema_scan(*EMA, backend="fast")
    with pytest.raises(ValueError, match="no op has a backend 'fast'"), use_backend("fast"):
        pass
    with pytest.raises(ValueError, match="op ema_scan has no backend 'fast'"), use_backend(ema_scan="fast"):
        pass
    with pytest.raises(ValueError, match="there is no op 'emascan'; ops are attention, "), use_backend(emascan="eager"):
        pass


def test_the_nearest_choice_wins() -> None:
    with use_backend("reference"):
        assert chosen("ssd") == "reference"
        assert chosen("ssd", "eager") == "eager"
        with use_backend(ssd="eager"):
            assert chosen("ssd") == "eager"
            assert chosen("ema_scan") == "reference"
        assert chosen("ssd") == "reference"
    assert chosen("ssd") == "cpu"


def test_a_choice_for_all_ops_is_for_those_that_have_it() -> None:
    with use_backend(ssd="eager"), use_backend("cpu"):
        assert chosen("ssd") == "cpu"
        assert chosen("ema_scan") == "eager"


def test_a_choice_ends_with_its_block_also_by_an_error() -> None:
    with pytest.raises(RuntimeError), use_backend("reference"):
        raise RuntimeError
    assert chosen("ssd") == "cpu"


def test_a_choice_holds_in_other_threads_and_blocks_may_overlap() -> None:
    found: list[str] = []
    begun, may_end = threading.Event(), threading.Event()

    def overlap() -> None:
        with use_backend(ssd="eager"):
            begun.set()
            may_end.wait()
        found.append(chosen("ssd"))

    with use_backend(ema_scan="reference"):
        thread = threading.Thread(target=overlap)
        thread.start()
        begun.wait()
        assert (chosen("ssd"), chosen("ema_scan")) == ("eager", "reference")
    assert (chosen("ssd"), chosen("ema_scan")) == ("eager", "eager")
    may_end.set()
    thread.join()
    assert found == ["cpu"]


def test_what_was_chosen_can_be_chosen_again_later() -> None:
    with use_backend(ssd="reference"):
        recall = remember_backends()
    assert chosen("ssd") == "cpu"
    with recall():
        assert chosen("ssd") == "reference"
        with use_backend(ssd="eager"):
            assert chosen("ssd") == "reference"
    assert chosen("ssd") == "cpu"


def test_a_backend_added_while_the_program_runs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = importlib.import_module("hnet_lm.ops.ema_scan")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    (tmp_path / "nothing.py").write_text("def ema_scan(x, p, seqs, state):\n    return x * 0 + 7, state\n")
    importlib.invalidate_caches()
    with use_backend(ema_scan="nothing"):
        y, _ = ema_scan(torch.ones(2, 1), torch.full((2,), 0.5), Sequences.from_lengths([2]))
    assert y.flatten().tolist() == [7, 7]


def test_a_backend_whose_library_is_not_installed_is_passed_over_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "is_installed", lambda library: library != "triton")
    without = op("ema_scan")
    assert without.missing("triton") == "triton"
    with pytest.raises(ValueError, match="op ema_scan: the backend 'triton' needs triton, which is not installed"):
        without.choose("triton", CPU, *EMA)
    with (
        pytest.raises(ValueError, match="op ssd: the backend 'triton' needs triton, which is not installed"),
        use_backend(ssd="triton"),
    ):
        pass
    assert without.choose(None, torch.device("cuda"), *EMA).__name__ == "hnet_lm.ops.ema_scan.eager"
    dispatch.load_preferred(torch.device("cuda"))


def test_a_backend_for_gpus_says_that_it_is() -> None:
    if op("ema_scan").missing("triton") is not None:
        pytest.skip("Triton is not installed")
    with pytest.raises(ValueError, match="the backend 'triton' cannot do this: it runs on a GPU, not on cpu"):
        op("ema_scan").choose("triton", CPU, *EMA)
