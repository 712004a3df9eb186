"""The command line itself: quick help without torch, one line for a mistake, exit codes."""

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

PROGRAM = [sys.executable, "-c", "import sys; from hnet_lm.cli.main import main; sys.exit(main())"]
CONFIG = Path(__file__).parent.parent.parent / "configs" / "models" / "tiny_2stage.json"


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
    "not a choice": (["info", "a", "--dtype", "int4"], "invalid choice 'int4' for argument '--dtype'"),
    "value missing": (["info", "a", "--dtype"], "Missing value for argument '--dtype'"),
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
        module.Command = Command  # pyright: ignore[reportAttributeAccessIssue]
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
