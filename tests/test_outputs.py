"""Outputs are tried first, without a trace; written whole or not at all; and one that fails takes no other with it."""

import io
import os
import stat
import sys
from pathlib import Path

import pytest

from hnet_lm.outputs import Output, OutputError, OutputFolder, tried, write_all


def test_trying_leaves_nothing_behind_and_changes_nothing(tmp_path: Path):
    there = tmp_path / "there.md"
    there.write_text("old")
    os.utime(there, (1, 1))
    Output.tried(there)
    Output.tried(tmp_path / "new.md")
    OutputFolder.tried(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["there.md"]
    assert (there.read_text(), there.stat().st_mtime) == ("old", 1)


def test_content_replaces_what_was_there_and_keeps_its_mode_and_its_links(tmp_path: Path):
    target = tmp_path / "target.txt"
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    Output.tried(link).write("né\n")
    assert link.is_symlink()
    assert target.read_bytes() == "né\n".encode()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.txt", "target.txt"]


def test_home_is_known_without_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Output.tried("~/a.txt").write("text")
    OutputFolder.tried("~/folder").write({"b.txt": b"bytes"})
    assert (tmp_path / "a.txt").read_text() == "text"
    assert (tmp_path / "folder" / "b.txt").read_bytes() == b"bytes"


def test_a_hyphen_is_standard_output(monkeypatch: pytest.MonkeyPatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    print("before", end=" ")
    Output.tried("-", ("png",)).write("中")
    assert stream.buffer.getvalue() == b"before " + "中".encode()


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path):
    Output.tried("/dev/null").write("text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OutputError, match=r"^/dev/full: cannot be written: No space left on device$"):
        Output.tried("/dev/full").write("text")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere/a.png", "nowhere/a.png: cannot be written: No such file or directory"),
        ("file/a.png", "file/a.png: cannot be written: Not a directory"),
        ("folder", "folder: is a folder; name a file in it"),
        ("new/", "new/: is a folder; name a file in it"),
        ("a.docx", r"a.docx: cannot be written as .docx; the endings are .png, .svg"),
        ("", "an output has an empty path"),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_what_cannot_be_written_is_said_before(given: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=says):
        Output.tried(given, ("png", "svg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_that_cannot_be(tmp_path: Path):
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(OutputError, match="is a file, not a folder"):
            OutputFolder.tried(tmp_path / name)


def test_a_failed_write_leaves_the_old_file_and_writes_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = Output.tried(tmp_path / "a.txt"), Output.tried(tmp_path / "b.txt")
    first.write("old")

    def full(partial: Path, path: Path) -> None:
        if path.name == "a.txt":
            raise OSError(28, "No space left on device")
        os.rename(partial, path)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written: No space left"):
        write_all({first: "new", second: "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old", "b.txt": "new"}


def test_two_outputs_need_two_places(tmp_path: Path):
    assert tried((None, ())) == [None]
    for pair in (("-", "-"), (f"{tmp_path}/a", f"{tmp_path}/b/../a")):
        (tmp_path / "b").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match="two outputs"):
            tried(*((given, ()) for given in pair))
