"""Paths as people write them: each file once, in a fixed order, whatever links, marks and signs there are."""

import os
from pathlib import Path

import pytest

from hnet_lm.errors import DataError
from hnet_lm.inputs import content_suffix, expand, is_remote, read_text


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)


def found(folder: Path, pattern: str) -> list[str]:
    return [os.path.relpath(path, folder) for path in expand(str(folder / pattern))]


def test_a_folder_is_entered_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", tmp_path / "b" / "c.txt", tmp_path / "z" / "d.txt")
    (tmp_path / "b" / "up").symlink_to("..")
    (tmp_path / "b" / "self").symlink_to(".")
    (tmp_path / "latest").symlink_to("z")
    (tmp_path / "again.txt").symlink_to("a.txt")
    os.link(tmp_path / "a.txt", tmp_path / "hard.txt")  # a second file of the same bytes, as a copy would be
    assert found(tmp_path, "**/*.txt") == ["a.txt", "b/c.txt", "hard.txt", "z/d.txt"]
    assert found(tmp_path, "**") == ["a.txt", "b/c.txt", "hard.txt", "z/d.txt"]
    assert found(tmp_path, "*/*.txt") == ["b/c.txt", "z/d.txt"]
    assert found(tmp_path, "*.txt") == ["a.txt", "hard.txt"]
    assert found(tmp_path, "b/**/d.txt") == ["b/up/z/d.txt"]


def test_folders_reached_only_by_a_link(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "deep" / "a.txt", tmp_path / "data" / "b.txt")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path, "data/**/*.txt") == ["data/b.txt", "data/link/deep/a.txt"]


def test_globs_find_what_those_of_the_standard_library_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(*(tmp_path / name for name in ("x.txt", "a/x.txt", "a/b/x.txt", "a/b/y.md", ".hidden/x.txt", "a/.x.txt")))
    monkeypatch.chdir(tmp_path)
    assert expand("**/*.txt") == ["a/b/x.txt", "a/x.txt", "x.txt"]
    assert expand("**/b/**/*") == ["a/b/x.txt", "a/b/y.md"]
    assert expand("a/**/x.txt") == ["a/b/x.txt", "a/x.txt"]
    assert expand("./**/y.*") == ["./a/b/y.md"]
    assert expand("?/[bx]*") == ["a/x.txt"]
    assert expand(".hidden/**/*.txt") == [".hidden/x.txt"]


@pytest.mark.parametrize("name", ["a [1].txt", "what?.txt", "star*.txt", "a=b", "10:30.log", "~tilde", "ünïcode 中"])
def test_names_with_any_sign(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert expand(str(tmp_path / name)) == [str(tmp_path / name)]


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "data" / "a.txt")
    assert expand("~/data/*.txt") == [str(tmp_path / "data" / "a.txt")]
    assert expand("~/data/a.txt") == [str(tmp_path / "data" / "a.txt")]
    assert read_text("~/data/a.txt") == "a.txt"
    with pytest.raises(DataError, match="~/data is a directory; name its files, for example ~/data/"):
        expand("~/data")


def test_a_link_to_nothing_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    assert found(tmp_path, "*.txt") == ["a.txt", "gone.txt"]  # whoever reads it says that it is not there


def test_a_folder_that_may_not_be_listed_is_said(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    if os.access(tmp_path / "closed", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match="closed: cannot be listed: Permission denied"):
        expand(str(tmp_path / "**" / "*.txt"))


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("a/b.TXT", ".txt"),
        ("a.vcf.bgz", ".vcf"),
        ("a.jsonl.zst", ".jsonl"),
        ("a.fa.bz2", ".fa"),
        ("a.b/c", ""),
        ("a.gz", ""),
        ("https://host.example/a.jsonl.gz?download=true", ".jsonl"),
        ("memory://a/b.txt", ".txt"),
        ("10:30.log", ".log"),
    ],
)
def test_the_suffix_of_the_content(path: str, suffix: str) -> None:
    assert content_suffix(path) == suffix


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("s3://a/b", True),
        ("zip://*::file://a.zip", True),
        ("a:b", False),
        ("10:30://x", False),
        ("a/s3://b", False),
    ],
)
def test_what_is_remote(path: str, remote: bool) -> None:
    assert is_remote(path) == remote
