"""The command line itself: quick help without torch, one line for a mistake, exit codes."""

import io
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hnet_lm.cli.main import COMMANDS, main
from hnet_lm.errors import UserError
from hnet_lm.named_configs import FOLDER

PROGRAM = [sys.executable, "-c", "import sys; from hnet_lm.cli.main import main; sys.exit(main())"]
CONFIG = FOLDER / "models" / "tiny_2stage.json"


def run(*arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM[0], *flags, *PROGRAM[1:], *arguments], capture_output=True, text=True, check=False)


def test_help_is_quick():
    def seconds() -> float:
        start = time.perf_counter()
        assert run("--help").returncode == 0
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nonsense"], []])
def test_torch_is_not_imported_for_it(arguments: list[str]):
    imported = run(*arguments, flags=("-X", "importtime")).stderr
    modules = {line.rpartition("|")[2].strip() for line in imported.splitlines() if line.startswith("import time:")}
    assert "hnet_lm.cli.main" in modules
    assert not modules & {"torch", "numpy", "tyro", "rich"}


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name, line in COMMANDS.items():
        assert f"  {name} " in listed
        assert line in listed
    assert max(map(len, listed.splitlines())) <= 100


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "hnet-lm"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exited:
        main([name, "--help"])
    assert not exited.value.code
    assert f"usage: hnet-lm {name}" in capsys.readouterr().out


MISTAKES = {
    "unknown command": (["inof"], "unknown command 'inof'; did you mean 'info'?"),
    "unlike any command": (["xyzzy"], "unknown command 'xyzzy'; commands: "),
    "unknown option": (["--verbose"], "unknown command '--verbose'"),
    "argument missing": (["info"], "info: Missing from hnet-lm info: CONFIG"),
    "argument too many": (["info", "a", "b"], "info: Unrecognized options: b"),
    "flag misspelt": (["info", "a", "--sequence-lenth", "3"], "Perhaps you meant: --sequence-length INT"),
    "not a number": (["info", "a", "--sequence-length", "x"], "Error parsing --sequence-length"),
    "not a choice": (["info", "a", "--precision", "int4"], "invalid choice 'int4' for argument '--precision'"),
    "value missing": (["info", "a", "--precision"], "Missing value for argument '--precision'"),
    "no such file": (["info", "nowhere.json"], "nowhere.json: cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(mistake: str, capsys: pytest.CaptureFixture[str]):
    arguments, says = MISTAKES[mistake]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hnet-lm: error: ")
    assert says in err
    assert err.count("\n") == 1
    assert not set(err) & set("│╭╮╰╯─")


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int | None]], None]:
    """Registers a command `probe` that does what it is told."""

    def register(action: Callable[[], int | None]) -> None:
        @dataclass(frozen=True)
        class Command:
            """Do what the test says."""

            def run(self) -> int | None:
                return action()

        module = types.ModuleType("hnet_lm.cli.probe")
        module.Command = Command  # pyright: ignore[reportAttributeAccessIssue]  a module made here
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, "probe", "a command of this test")

    return register


def raising(error: BaseException) -> Callable[[], int | None]:
    def act() -> int | None:
        raise error

    return act


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (lambda: None, 0),
        (lambda: 7, 7),
        (raising(UserError("what is wrong")), 2),
        (raising(KeyboardInterrupt()), 130),
    ],
)
def test_exit_codes(probe: Callable, action: Callable[[], int | None], code: int, capsys: pytest.CaptureFixture[str]):
    probe(action)
    assert main(["probe"]) == code
    assert capsys.readouterr().err == ("hnet-lm: error: what is wrong\n" if code == 2 else "")


def of_the_disk() -> None:
    Path("nowhere/at/all").write_text("")


def of_text() -> None:
    b"caf\xe9".decode("utf-8")


class OutOfMemoryError(RuntimeError):
    """As torch's is named."""


MISTAKES_OF_LIBRARIES = {
    "a path": (of_the_disk, "nowhere/at/all: No such file or directory"),
    "two paths": (lambda: os.rename("nowhere", "elsewhere"), "nowhere to elsewhere: No such file or directory"),
    "no path": (raising(ConnectionError("the hub\ncannot be reached")), "the hub cannot be reached"),
    "bytes that are no text": (of_text, "not text in utf-8: byte 3 is 0xe9"),
    "text that cannot be bytes": (lambda: "a\ud800".encode(), "utf-8 has no U+D800, which is character 1 of a text"),
    "memory": (raising(MemoryError()), "there is not enough memory: give less at once"),
    "a device's memory": (raising(OutOfMemoryError("tried 3 GiB")), "there is not enough memory: tried 3 GiB"),
    "torch's memory": (
        raising(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")),
        "there is not enough memory: DefaultCPUAllocator: can't allocate memory: 9 bytes",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES_OF_LIBRARIES)
def test_what_the_system_and_libraries_find_is_one_line_too(
    mistake: str, probe: Callable, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    action, says = MISTAKES_OF_LIBRARIES[mistake]
    probe(action)
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == f"hnet-lm: error: {says}\n"


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("a bug"), KeyError("x"), IndexError()])
def test_other_errors_keep_their_traceback(error: Exception, probe: Callable):
    probe(raising(error))
    with pytest.raises(type(error)):
        main(["probe"])


def in_shell(script: str) -> subprocess.CompletedProcess[bytes]:
    """A line of a shell, in which $HNET_LM is the command line."""
    command = f'hnet_lm() {{ "{PROGRAM[0]}" -c "{PROGRAM[2]}" "$@"; }}; {script}'
    return subprocess.run(["bash", "-c", command], capture_output=True, check=False)


def test_a_full_disk_behind_standard_output():
    for arguments in (f"info {CONFIG}", "info --help"):
        done = in_shell(f"hnet_lm {arguments} > /dev/full")
        says = b"hnet-lm: error: standard output cannot be written: No space left on device\n"
        assert (done.returncode, done.stderr) == (2, says)


def test_closed_streams_are_no_fault():
    done = in_shell(f"hnet_lm info {CONFIG} >&- <&-")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_an_encoding_does_not_have_is_replaced(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "模型é.json"
    path.write_text(CONFIG.read_text())
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding=encoding))
    assert main(["info", str(path)]) == 0
    assert "模型é.json:".encode(encoding, "replace") in shown.getvalue()
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_is_not_hidden(probe: Callable):
    probe(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main(["probe"])


def test_a_reader_that_leaves_gets_no_complaint():
    reading, writing = os.pipe()
    os.close(reading)
    command = [*PROGRAM, "info", CONFIG, "--json"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
