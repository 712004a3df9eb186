"""`hnet-lm watch`: lines over a pipe, a screen on a terminal, and an end when the run has ended."""

import io
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import hnet_lm
from hnet_lm.cli import watch
from hnet_lm.cli.main import main
from hnet_lm.inspect.curve import draw_curve
from hnet_lm.training.run_folder import replace_file

UPDATE = {"loss": 1.5, "bytes_per_second": 2000.0, "mfu": 0.25, "lr": 1e-3}


def update(step: int, bits: float = 2.0) -> dict[str, Any]:
    sizes = {"stage0/bytes_per_chunk": 3.0 + step / 10}
    return {"step": step, "bits_per_byte": bits, "bytes_seen": 100 * step, **UPDATE, **sizes}


def write_run(folder: Path, records: list[dict[str, Any]], *, process: int = 0, has_ended: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    replace_file(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())
    record = {"began": "x", "process": process or os.getpid(), "host": os.uname().nodename, "since": "x"}
    record |= {"ended": "x", "how": "x"} if has_ended else {}
    replace_file(folder / "run.json", json.dumps(record).encode())
    return folder


def test_over_a_pipe_there_is_a_line_for_each_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [update(1), {"step": 1, "validation/bits_per_byte": 2.25, "validation/num_bytes": 5}]
    records += [{"step": 2, "warning": "all alike"}, {"step": 3, "loss": None, "skipped": True}]
    assert main(["watch", str(write_run(tmp_path / "run", records))]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "step 1  2.000 bits/byte  3.1 bytes/chunk  2.0 kB/s  25% of data sheet",
        "step 1  2.250 bits/byte on held-out text",
        "step 2  router health, all alike",
        "step 3  not finite, skipped",
    ]


def test_it_follows_a_run_until_that_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [update(1)], has_ended=False)

    def go_on() -> None:
        time.sleep(0.3)
        write_run(run, [update(1), update(2)], has_ended=False)
        time.sleep(0.3)
        write_run(run, [update(1), update(2), update(3)])

    thread = threading.Thread(target=go_on)
    thread.start()
    assert main(["watch", str(run), "--every", "0.1"]) == 0
    thread.join()
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "3"]


def test_a_run_that_goes_on_from_an_earlier_step_is_told_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [update(1), update(2), update(3)], has_ended=False)

    def go_back() -> None:
        time.sleep(0.3)
        write_run(run, [update(1)], has_ended=False)
        time.sleep(0.3)
        write_run(run, [update(1), update(2, 1.0)])

    thread = threading.Thread(target=go_back)
    thread.start()
    assert main(["watch", str(run), "--every", "0.1"]) == 0
    thread.join()
    steps = [(line.split()[1], line.split()[2]) for line in capsys.readouterr().out.splitlines()]
    assert steps == [("1", "2.000"), ("2", "2.000"), ("3", "2.000"), ("2", "1.000")]


def test_a_killed_run_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert main(["watch", str(write_run(tmp_path / "run", [update(1)], process=child, has_ended=False))]) == 0
    assert "step 1" in capsys.readouterr().out


def test_a_terminal_shows_curves_warnings_and_chunks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = tmp_path / "run"
    hnet_lm.save(hnet_lm.HNetLM(hnet_lm.HNetConfig.load("tiny_1stage")), run)
    records = [update(step, 4.0 / step) for step in range(1, 30)]
    records += [{"step": 29, "validation/bits_per_byte": 2.25}, {"step": 29, "warning": "all alike"}]
    write_run(run, records)
    console = Console(file=io.StringIO(), width=70, force_terminal=True, color_system=None)
    picture = watch.ChunkPicture(run, "where does it cut")
    console.print(watch.screen(run, records, picture.lines(70), console, True))
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue] - it is the StringIO
    for part in ("(ended)", "bits per byte, training, step 1 to 29", "4.000", "bytes per chunk, stage0", "all alike"):
        assert part in shown
    assert "where" in shown
    assert "cut" in shown
    assert picture.lines(70) is picture.lines(70), "not drawn again as long as the weights are the same"


@pytest.mark.parametrize("name", ["", "empty"])
def test_what_is_no_run_is_said(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["watch", str(tmp_path / (name or "none"))]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_curve_falls_where_its_values_fall() -> None:
    lines = draw_curve(range(100), [100.0 - x for x in range(100)], 40, 5)
    assert len(lines) == 5
    assert lines[0].startswith("100.000 ")
    assert lines[-1].startswith("  1.000 ")
    first = [min(i for i, sign in enumerate(line[8:]) if sign != " ") for line in lines]
    assert first == sorted(first)
    assert first[0] < 8 < 24 < first[-1] + 8
    assert all("\u2800" <= sign <= "\u28ff" or sign == " " for line in lines for sign in line[8:])


def test_a_curve_without_unicode_and_without_values() -> None:
    assert set("".join(line[6:] for line in draw_curve([1, 2, 3], [1, 2, 3], 30, 4, encoding="ascii"))) <= set(" *")
    assert draw_curve([], [], 30, 4) == ["no values yet"]
    assert draw_curve([1, 2], [float("nan"), float("inf")], 30, 4) == ["no values yet"]
    assert any("*" in line for line in draw_curve([1, 2], [3.0, 3.0], 30, 4, encoding="ascii"))
