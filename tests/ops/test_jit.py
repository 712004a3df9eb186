"""Machine code on disk is never stale, and where nothing can be written loops still run."""

import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hnet_lm
from hnet_lm.ops.compiled import jit

PACKAGE = Path(hnet_lm.__file__).parent
RUN = """
    import numpy as np, warnings
    warnings.simplefilter("always")
    import loop
    print(loop.run(np.float32(2)))
"""
LOOP = """
    from hnet_lm.ops.compiled.exponential import exp
    from hnet_lm.ops.compiled.jit import compiled

    @compiled
    def run(x):
        return exp(x)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's compiled tools, and a loop that uses them in a folder of its own."""
    for name in ("ops/__init__.py", "ops/compiled", "errors.py"):
        target = tmp_path / "src" / "hnet_lm" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PACKAGE / name).is_dir() else shutil.copy
        copy(PACKAGE / name, target)
    (tmp_path / "src" / "hnet_lm" / "ops" / "__init__.py").write_text("")
    (tmp_path / "src" / "hnet_lm" / "__init__.py").write_text("")
    (tmp_path / "src" / "loops").mkdir()
    (tmp_path / "src" / "loops" / "loop.py").write_text(textwrap.dedent(LOOP))
    return tmp_path


def run(package: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(package / "src"), str(package / "src" / "loops")])
    env = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"} | environment
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN)], env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert found.returncode == 0, found.stderr
    return found


def machine_code(package: Path) -> dict[str, float]:
    return {path.name: path.stat().st_mtime_ns for path in (package / "src" / "loops" / "__pycache__").glob("*.nbc")}


def test_a_change_to_a_constant_in_another_file_compiles_its_loops_again(package: Path) -> None:
    assert float(run(package).stdout) == pytest.approx(7.389056, rel=1e-6)
    kept = machine_code(package)
    assert len(kept) == 1
    run(package)
    assert machine_code(package) == kept  # nothing changed, so nothing was compiled
    source = package / "src" / "hnet_lm" / "ops" / "compiled" / "exponential.py"
    source.write_text(source.read_text().replace("LOG2_E = np.float32(1.44269504)", "LOG2_E = np.float32(0)"))
    assert float(run(package).stdout) != pytest.approx(7.389056, rel=1e-3)


def test_the_stamp_covers_versions_and_every_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text("a = 1")
    stamps = set()
    for change in (
        lambda: None,
        lambda: (tmp_path / "loop.py").write_text("a = 2"),
        lambda: (tmp_path / "new.py").write_text(""),
        lambda: monkeypatch.setattr(jit.numba, "__version__", "0"),
        lambda: monkeypatch.setattr(jit.llvmlite, "__version__", "0"),
    ):
        change()
        jit.source_stamp.cache_clear()
        stamps.add(jit.source_stamp(tmp_path))
    jit.source_stamp.cache_clear()
    assert len(stamps) == 5


def test_where_the_package_cannot_be_written_the_users_folder_is_used(package: Path, tmp_path: Path) -> None:
    _block(package)
    home = tmp_path / "home"
    assert float(run(package, XDG_CACHE_HOME=str(home)).stdout) == pytest.approx(7.389056, rel=1e-6)
    assert len(list(home.rglob("*.nbc"))) == 1


def test_where_nothing_can_be_written_loops_run_and_a_warning_says_so_once(package: Path) -> None:
    _block(package)
    found = run(package, XDG_CACHE_HOME="/dev/null/none")
    assert float(found.stdout) == pytest.approx(7.389056, rel=1e-6)
    assert found.stderr.count("loops are compiled for this process") == 1


def _block(package: Path) -> None:
    """Also root cannot make a folder where a file is."""
    (package / "src" / "loops" / "__pycache__").write_text("")
    (package / "src" / "loops").chmod(stat.S_IRUSR | stat.S_IXUSR)
