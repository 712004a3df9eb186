"""The figure of a run: from whatever records there are, whole or not at all."""

from pathlib import Path
from typing import Any

import pytest
from failing_files import FailingFiles

from hnet_lm.training.errors import CannotWrite
from hnet_lm.training.figure import save_figure


def record(step: int, loss: float | None = 2.0) -> dict[str, Any]:
    return {"step": step, "bytes_seen": 100 * step, "loss": loss, "bits_per_byte": loss, "stage0/bytes_per_chunk": 3.0}


@pytest.mark.parametrize(
    "records",
    [
        [record(1), record(2, 1.5), {"step": 2, "validation/bits_per_byte": 1.7}],
        [record(1, None), {"step": 1, "validation/bits_per_byte": 1.7}],
        [{"step": 3, "validation/bits_per_byte": 1.7}],
        [],
    ],
)
def test_a_picture_of_any_records(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    save_figure(records, tmp_path / "loss.png", [3.0], "run")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the paths of open files are asked of Linux")
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_disk_that_fails_leaves_the_picture_before(tmp_path: Path, number: int) -> None:
    """Opening, writing, flushing, renaming."""
    picture = tmp_path / "loss.png"
    picture.write_bytes(b"before")
    with (
        FailingFiles(tmp_path, number, "short") as disk,
        pytest.raises(CannotWrite, match=r"loss\.png: cannot be written: No space left on device$"),
    ):
        save_figure([record(1), record(2)], picture, [3.0], "after")
    assert disk.has_failed
    assert picture.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
