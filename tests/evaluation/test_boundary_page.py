"""What cuts mean as a part of a page and as a figure: every figure of the report is there."""

import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from hnet_lm import checkpoint
from hnet_lm.cli.main import main
from hnet_lm.evaluation import PassageScore
from hnet_lm.evaluation.boundary_figure import save_figure
from hnet_lm.evaluation.boundary_page import boundary_section, visible
from hnet_lm.evaluation.boundary_report import BoundaryReport
from hnet_lm.genome import BedInterval
from hnet_lm.inspect import chunks, render_html
from hnet_lm.model import HNetLM


@pytest.fixture
def facts() -> dict:
    report = BoundaryReport()
    genes = [BedInterval("", 0, 9, "g", "+", ((0, 9),))]
    surprisal = np.array([1.0, 2.0, 1.0, 8.0, 1.0, 3.0, 1.0])
    for domain in ("a <b>", "c"):
        starts = (np.array([0, 3, 5]), np.array([0, 3]))
        score = PassageScore(-surprisal.sum(), 7, 0.0, False, starts, -surprisal)
        report.add(domain, b"the cat", score, {"spaces": np.array([3])}, genes)
    found = json.loads(json.dumps(report.to_json()))
    found["c"][0]["stability"] = {"shift_f1": 0.875, "changed_byte_f1": None}
    return found


def test_the_section_has_every_figure(facts: dict) -> None:
    section = boundary_section(facts)
    assert "<b>" not in section
    assert "a &lt;b&gt;, stage 1" in section
    outer = facts["c"][0]
    for shown in (
        f"B = {outer['enrichment']['value']:.2f}",
        f"{outer['enrichment']['null_low']:.2f} to {outer['enrichment']['null_high']:.2f} by chance",
        "50.0 (16.7)",  # precision beside chance
        "2.33",  # bytes per chunk
        "0.875",
        "between codons",
        "<code>␣c</code>",
    ):
        assert shown in section, shown
    (row,) = re.findall(r"<tr><td>c</td><td>0</td>.*?</tr>", section)
    cells = re.findall(r"<td>(.*?)</td>", row)
    assert cells == ["c", "0", "3", "2.33", "0.47", "50.0 %", "0.0 %", "0.875", ""]
    assert boundary_section({}) == ""


def test_a_stage_without_a_cut_is_said(facts: dict) -> None:
    silent = {**facts["c"][1], "enrichment": {"value": None}, "agreement": [], "common_chunks": []}
    assert "No cut, so no boundary enrichment" in boundary_section({"x": [silent]})


def test_what_is_not_printed_is_marked() -> None:
    assert visible(" the\n") == "␣the⏎"


def test_the_figure_is_written(facts: dict) -> None:
    picture = BytesIO()
    assert save_figure(facts, picture) == ""
    assert picture.getvalue().startswith(b"\x89PNG")


def test_the_command_writes_a_page_and_a_figure(
    model: HNetLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(model, tmp_path / "model")
    (tmp_path / "a.txt").write_text("Call me Ishmael. Some years ago - never mind how long precisely. " * 4)
    page, figure = tmp_path / "chunks.html", tmp_path / "figure.svg"
    files = ["--html", str(page), "--png", str(figure)]
    arguments = ["evaluate", "boundaries", str(tmp_path / "model"), f"book={tmp_path / 'a.txt'}", *files]
    assert main(arguments) == 0
    assert "B by chance" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert 'data-view="boundaries"' in text
    assert "book, stage 0" in text
    assert figure.read_text().lstrip().startswith("<?xml")
    assert main([*arguments[:-4], "--html", "-", "--json"]) == 2
    assert "--json prints to standard output" in capsys.readouterr().err


def test_a_page_without_boundaries_has_no_views(model: HNetLM) -> None:
    with torch.no_grad():
        page = render_html(chunks(model, "a b"), "plain")
    assert "data-view=" not in page.split("<script", 1)[0]
