"""Tables that never drop a column or truncate a value.

Outside a terminal a table is as wide as its cells. On a terminal that is too narrow, headings and columns of long texts
wrap; if even that does not fit, each row becomes a block of lines.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

MIN_FOLDED = 12


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: Sequence[int] = (0,)) -> None:
    """The first column is of names. Those in `text_columns` are left-aligned, and may wrap, except for the first."""
    rows = list(rows)
    console = Console(highlight=False)
    columns = list(zip(headings, *rows, strict=True))
    full = [max(map(cell_len, column)) for column in columns]
    least = [_least_width(column, may_fold=i > 0 and i in text_columns) for i, column in enumerate(columns)]
    table = _table(headings, rows, full, text_columns)
    spare = console.width - _width(console, _table(headings, rows, least, text_columns))
    if not console.is_terminal or _width(console, table) <= console.width:
        console.width = max(console.width, _width(console, table))
        console.print(table)
    elif spare >= 0:
        for i in sorted(range(len(least)), key=lambda i: i not in text_columns):
            taken = min(spare, full[i] - least[i])
            least[i], spare = least[i] + taken, spare - taken
        console.print(_table(headings, rows, least, text_columns))
    else:
        _print_blocks(console, headings, rows)


def rounded(value: Any, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if isinstance(value, float) else ""


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _least_width(column: Sequence[str], *, may_fold: bool) -> int:
    heading, *cells = column
    content = max(map(cell_len, cells), default=0)
    return max([min(content, MIN_FOLDED) if may_fold else content, *map(cell_len, heading.split())])


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], text_columns: Sequence[int]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, (heading, width) in enumerate(zip(headings, widths, strict=True)):
        table.add_column(Text(heading), justify="left" if i in text_columns else "right", width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # not as markup: a name may hold brackets
    return table


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(max_width=1_000_000)).maximum


def _print_blocks(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    label_width = max(map(cell_len, headings[1:]))
    for name, *values in rows:
        console.print(Text(name), soft_wrap=True)
        for heading, value in zip(headings[1:], values, strict=True):
            if value:
                console.print(Text(f"  {heading.ljust(label_width)}  {value}"), soft_wrap=True)
