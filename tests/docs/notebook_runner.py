"""Run the cells of a notebook in this process, as Jupyter would show them.

`python tests/docs/notebook_runner.py FILE ...` keeps the outputs in the files.
"""

import sys
from pathlib import Path

import matplotlib
import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from IPython.utils.capture import capture_output
from nbformat.v4 import new_output


def executed(path: Path) -> nbformat.NotebookNode:
    """A copy with the outputs of this run. Raises what a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    matplotlib.use("module://matplotlib_inline.backend_inline")
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    select_figure_formats(shell, {"png"})
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        with capture_output() as captured:
            shell.run_cell(cell.source).raise_error()
        cell.execution_count = number
        cell.outputs = [
            new_output("stream", name=name, text=text)
            for name, text in (("stdout", captured.stdout), ("stderr", captured.stderr))
            if text
        ]
        cell.outputs += [new_output("display_data", data=shown.data, metadata={}) for shown in captured.outputs]
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:]:
        nbformat.write(executed(Path(name)), name)
