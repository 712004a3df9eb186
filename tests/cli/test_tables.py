"""Tables lose no name, no column and no digit, however narrow the terminal, and off a terminal are not cut at all."""

import re

import pytest
from rich.cells import cell_len

from hnet_lm.cli.tables import print_table

HEADINGS = ("family", "layout", "params", "MFLOPs per byte", "bits/byte")
NAMES = ("spacebyte++", "[red]brackets[/]", "中文模型")
LAYOUT = "m4+T1m4+T27+m4T1+m4+T1m4+T27+m4T1+m4"
ROWS = [[name, LAYOUT, f"{i + 1},603,492,224", f"{690.123 + i}", f"{2.5951 + i}"] for i, name in enumerate(NAMES)]


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_table(HEADINGS, ROWS, text_columns=(0, 1))
    return re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("columns", [None, "80", "20"])
def test_off_a_terminal_each_row_is_one_line(
    columns: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    else:
        monkeypatch.delenv("COLUMNS", raising=False)
    lines = printed(capsys)
    for row in ROWS:
        assert [line.split() for line in lines].count(row) == 1
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("columns", [200, 100, 80, 60, 40, 25])
def test_on_a_terminal_every_name_and_figure_is_whole(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"COLUMNS": str(columns), "TTY_COMPATIBLE": "1", "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    lines = printed(capsys)
    text = "\n".join(lines)
    for name, _, *figures in ROWS:
        assert name in text
        assert all(figure in text for figure in figures)
    assert "…" not in text
    assert all(word in text for word in ("params", "MFLOPs", "bits/byte"))
    if columns >= 80:
        assert max(map(cell_len, lines)) <= columns
