from collections.abc import Callable

import pytest
from rich.cells import cell_len

from hnet_lm.inspect import Chunks, chunks, summarize, terminal
from hnet_lm.model import HNetLM


def lines(found: Chunks, width: int = 60, **options: bool) -> list[str]:
    return [line.plain.rstrip() for line in terminal.render(found, width, **options)]


def test_the_picture_without_colour(sample: Chunks):
    assert lines(sample) == [
        "      0 The 中文 cat⏎",
        "stage 0 ┗━━┗╋━━━┗━━━━",
        "stage 1 ┗━━━╋━━━━━━━━",
        "     15 e\u0301␀\\xff end",
        "stage 0 ╋━━━━━┗━━━",
        "stage 1 ┗━━━━━━━━━",
        "╋: a chunk starts inside the character, between its bytes",
    ]


def test_probabilities_as_bars(make_chunks: Callable[..., Chunks]):
    assert lines(make_chunks(b"abcd", [0, 2]), probabilities=True)[1:] == ["stage 0 ┗━┗━", "      p █▁█▁"]


def test_a_model_without_stages_shows_the_text(make_chunks: Callable[..., Chunks]):
    assert lines(make_chunks(b"abc")) == ["      0 abc"]


def test_an_empty_text(make_chunks: Callable[..., Chunks]):
    assert lines(make_chunks(b"", [], [])) == []


def test_colours_change_with_the_chunk(make_chunks: Callable[..., Chunks]):
    text, band = terminal.render(make_chunks(b"abcd", [0, 2, 3]), 40)
    styled = [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]
    even, odd = (f"not dim {style}" for style in terminal.TEXT_STYLES)
    assert [(part, style) for part, style in styled if part.strip()[:1].isalpha()] == [
        ("ab", even),
        ("c", odd),
        ("d", even),
    ]
    assert len(band.spans) == 3


def test_no_line_is_wider_than_asked_and_no_character_is_lost(models: dict[int, HNetLM]):
    text = "The 中文字 😀 e\u0301 cat\tsat.\n" * 20
    found = chunks(models[3], text)
    *drawn, note = terminal.render(found, 40, probabilities=True)
    assert note.plain.startswith(terminal.SIGNS.inside)
    assert max(cell_len(line.plain) for line in drawn) <= 40
    rows = [line.plain[len("stage 0 ") :] for line in drawn if line.plain[:8].strip().isdigit()]
    assert "".join(rows) == text.replace("\n", "⏎").replace("\t", "␉")


def test_histogram(make_chunks: Callable[..., Chunks]):
    (summary,) = summarize(make_chunks(b"0123456789", [0, 1, 2, 4]))
    bars = [line.plain for line in terminal.histogram(summary, 50, max_bars=3)]
    assert [bar.split() for bar in bars] == [
        ["1", "█" * 20, "2", "(50.0%)"],
        ["2", "█" * 10, "1", "(25.0%)"],
        ["3+", "█" * 10, "1", "(25.0%)"],
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_without_the_signs_gets_others_of_the_same_width(encoding: str, make_chunks: Callable[..., Chunks]):
    data = "né 中\nx".encode()  # n, é, space, 中, line break, x
    found = make_chunks(data, [0, 3, 5, 8])
    rich_lines = [line.plain for line in terminal.render(found, 40, probabilities=True)]
    lines = [line.plain for line in terminal.render(found, 40, probabilities=True, encoding=encoding)]
    shown = "\n".join(lines)
    assert shown.encode(encoding).decode(encoding) == shown
    assert [cell_len(line) for line in lines[:-1]] == [cell_len(line) for line in rich_lines[:-1]]
    accent = "?" if encoding == "ascii" else "é"
    assert lines[0].endswith(f"n{accent} ??$")
    assert lines[1].endswith("|-|+--")
    bars = [line.plain for line in terminal.histogram(summarize(found)[0], 60, encoding=encoding)]
    assert all(bar.isascii() for bar in bars)
    assert any("###" in bar for bar in bars)
