"""A run as a page shows it: from a folder that a run is writing, or wrote."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from hnet_lm.training.followed_run import MOST_POINTS, FollowedRun
from hnet_lm.training.run_folder import METRICS, RECORD


def write(folder: Path, records: list[dict[str, Any]], **ended: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))
    now = "2020-01-01T00:00:00+00:00"
    record = {"began": now, "process": os.getpid(), "host": platform.node(), "since": now, **ended}
    (folder / RECORD).write_text(json.dumps(record))


def update(step: int, bits: float, **more: float) -> dict[str, Any]:
    return {"step": step, "loss": bits, "bits_per_byte": bits, "bytes_seen": 100 * step, **more}


def followed(folder: Path) -> FollowedRun:
    run = FollowedRun.of(folder)
    assert run is not None
    return run


def curves(run: FollowedRun) -> dict[str, list[tuple[int, float]]]:
    return {curve["name"]: curve["points"] for curve in run.summary()["curves"]}


def test_a_folder_without_a_run_is_none(tmp_path: Path) -> None:
    assert FollowedRun.of(tmp_path) is None
    assert FollowedRun.of(tmp_path / "nothing") is None


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    write(tmp_path / "run", [{"config": {"a": 1}}])
    assert followed(tmp_path / "run").summary() == {
        "step": 0,
        "bytes_seen": 0,
        "has_ended": False,
        "bits_per_byte": None,
        "curves": [
            {"name": name, "points": []} for name in ("Bits per byte, training", "Bits per byte, held-out text")
        ],
    }


def test_what_is_written_since_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    records = [update(1, 3.0, **{"stage0/bytes_per_chunk": 4.5}), update(2, 2.5, **{"stage0/bytes_per_chunk": 5.0})]
    write(folder, records)
    run = followed(folder)
    assert (run.summary()["step"], run.summary()["bits_per_byte"]) == (2, None)
    assert curves(run)["Bytes per chunk, stage 0"] == [(1, 4.5), (2, 5.0)]
    records += [{"step": 2, "validation/bits_per_byte": 2.75}, update(3, 2.0, **{"stage0/bytes_per_chunk": 5.5})]
    write(folder, records, ended="2020-01-01T01:00:00+00:00", how="without an error")
    summary = run.summary()
    figures = (summary["step"], summary["bytes_seen"], summary["has_ended"], summary["bits_per_byte"])
    assert figures == (3, 300, True, 2.75)
    assert curves(run) == {
        "Bits per byte, training": [(1, 3.0), (2, 2.5), (3, 2.0)],
        "Bits per byte, held-out text": [(2, 2.75)],
        "Bytes per chunk, stage 0": [(1, 4.5), (2, 5.0), (3, 5.5)],
    }


def test_a_process_that_is_gone_has_ended_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "run", [update(1, 3.0)])
    assert not followed(tmp_path / "run").summary()["has_ended"]

    def gone(*_: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    assert followed(tmp_path / "run").summary()["has_ended"]


@pytest.mark.parametrize("num_steps", [MOST_POINTS, MOST_POINTS + 1, 7 * MOST_POINTS - 1])
def test_curves_are_thinned_to_means_of_neighbours(tmp_path: Path, num_steps: int) -> None:
    write(tmp_path / "run", [update(step, float(step)) for step in range(1, num_steps + 1)])
    points = curves(followed(tmp_path / "run"))["Bits per byte, training"]
    size = -(-num_steps // MOST_POINTS)
    assert len(points) == -(-num_steps // size) <= MOST_POINTS
    assert points[0] == (size, (size + 1) / 2)
    assert points[-1][0] == num_steps
