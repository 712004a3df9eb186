"""The notebooks run top to bottom, and hold the output of such a run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from installed_wheel import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What kinds of output each cell of code has: its streams, and the types of its pictures."""
    return [
        [output.get("name") or next(iter(output.data)) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_top_to_bottom(path: Path, tmp_path: Path) -> None:
    kept = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        cell.pop("execution_count", None)
    fresh = nbformat.v4.upgrade(notebook)
    NotebookClient(fresh, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert outputs(fresh) == outputs(kept)
    assert any("image/png" in kinds for kinds in outputs(fresh))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_that_of_one_run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert not any("stderr" in kinds for kinds in outputs(notebook))
    assert {path.stem for path in NOTEBOOKS} == {"dna", "english"}
