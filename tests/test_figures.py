"""Figures are drawn in fonts that have their characters, also fonts that matplotlib does not know yet."""

import io
import warnings
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from hnet_lm import figures

BUNDLED = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
CUNEIFORM = "𒀀"


def drawn(text: str) -> tuple[str, list[str]]:
    """The characters that are boxes, and the families of the text."""
    figure = Figure()
    label = figure.text(0.5, 0.5, text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        missing = figures.write_figure(figure, io.BytesIO())
    return missing, label.get_fontfamily()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Font files of the machine: none but matplotlib's DejaVu Sans, until a test says so."""
    files: list[str] = []
    known = [font for font in fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(fontManager, "ttflist", known)
    monkeypatch.setattr(figures, "findSystemFonts", lambda: files)
    return files


def test_characters_that_no_font_has_are_returned_and_said(machine: list[str]):
    missing, _ = drawn(f"plain {CUNEIFORM}\u200d\ufe0f text")
    assert missing == CUNEIFORM
    assert "has a character of it (𒀀), drawn as boxes; install one" in figures.boxes_note(missing)
    assert "has 12 characters of it (" in figures.boxes_note("你" * 12)


def test_a_font_that_was_installed_since_the_list_was_made_is_found(machine: list[str]):
    text = "\N{INTEGRAL EXTENSION}\N{MATHEMATICAL SCRIPT SMALL L}"  # the second in STIX alone
    assert drawn(text)[0] == text[1]
    machine += ["nowhere.ttf", str(BUNDLED / "STIXGeneral.ttf")]
    missing, families = drawn(text)
    assert missing == ""
    assert families[-1] == "STIXGeneral"


def test_half_of_a_surrogate_pair_is_drawn_as_a_question_mark(machine: list[str]):
    assert drawn("caf\udce9")[0] == ""


@pytest.mark.parametrize(
    ("kind", "start"), [("png", b"\x89PNG"), ("", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_kinds(kind: str, start: bytes):
    file = io.BytesIO()
    figures.write_figure(Figure(), file, kind=kind)
    assert file.getvalue().startswith(start)
