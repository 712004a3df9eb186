"""The notebooks run top to bottom, and hold the outputs of such a run."""

from pathlib import Path

import nbformat
import pytest
from notebook_runner import executed

from installed_wheel import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell of code shows: its streams, and its pictures or values."""
    return [
        [output.get("name") or ("picture" if "image/png" in output.data else "value") for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = kinds(executed(path))
    assert found == kinds(nbformat.read(path, as_version=4))
    assert ["picture"] in found
    assert not list(tmp_path.iterdir()), "a notebook leaves nothing in the folder"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_that_of_one_run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any("stderr" in kinds_of_cell for kinds_of_cell in kinds(notebook))
    assert {path.stem for path in NOTEBOOKS} == {"dna", "english"}
