"""`hnet-lm COMMAND ...`: finds the command, reads its arguments, and turns a user's mistake into one line.

A command is a file with a frozen dataclass `Command`: its docstring is the description, its fields are the arguments
(tyro reads names, types, defaults and the docstrings below them), and `run()` does the work and may return an exit
code. The table here has one line per command; neither its file nor torch is imported before the command runs.
"""

import contextlib
import dataclasses
import difflib
import errno
import functools
import importlib
import io
import keyword
import os
import re
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TextIO

from hnet_lm.cli.mistakes import MISTAKE, explain
from hnet_lm.errors import UserError
from hnet_lm.registry import import_module_of_user

COMMANDS = {
    "demo": "train a small model on bundled English in a few minutes and show what it learned",
    "new": "write a run file to edit, with a comment at every key",
    "train": "train a model, or resume a run that was stopped",
    "distill": "train a model of bytes with the blocks of a model of tokens inside",
    "plan": "what a run takes on each of so many GPUs: memory, network, FLOPs, hours",
    "watch": "watch a run: live curves, figures and chunks",
    "sweep": "train a run file once for every combination of values, and show a table",
    "serve": "serve models over HTTP, with a page to try them",
    "models": "the trained models that come with hnet-lm",
    "info": "parameters, FLOPs per byte and state of a model, by stage and part",
    "import": "convert a transformers directory to a saved model of tokens",
    "export": "write a model for Hugging Face transformers, or as a page that needs no server",
    "convert": "make a saved directory of the reference code's weights, or of an adapter (LoRA)",
    "calibrate": "set the thresholds of a trained model for chunks of another length",
    "generate": "continue prompts",
    "chunks": "show where a model cuts a text, stage by stage",
    "embed": "write vectors of documents, or of the regions of a BED file",
    "evaluate": "bits per byte, robustness, DNA, benchmarks, data efficiency",
    "match": "configs of the baseline families that cost as many FLOPs per byte as a model",
    "compare": "one table of several runs: cost, chunks, bits per byte, robustness, speed",
}

INTERRUPTED, READER_GONE = 130, 141
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code is 0, 2 for a user's mistake, 130 when interrupted."""
    # Before torch is imported: its idle threads would occupy cores that the compiled loops and other processes need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _open_standard_streams()
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv), time.monotonic())
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it, as `| head` does
        _give_up(sys.stdout)
        return READER_GONE
    except Exception as error:  # of any kind: `explain` knows which are a user's mistake; others are raised again
        line = explain(error)
        if line is None:
            raise
        if _is_of_standard_output(error):
            line = f"standard output cannot be written: {line}"
            _give_up(sys.stdout)
        print(f"hnet-lm: error: {line}", file=sys.stderr)
        return MISTAKE


def _open_standard_streams() -> None:
    """Make sure that streams exist, and print `?` for what they cannot encode: printing must never end a training."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller, as by `>&-`
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole process
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _is_of_standard_output(error: Exception) -> bool:
    """Whether standard output could not be written: then the error has no path, and writing to it fails again."""
    if not isinstance(error, OSError) or error.filename is not None or error.errno not in FULL:
        return False
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _give_up(stream: TextIO) -> None:
    """Discard what is still in the buffer: otherwise the interpreter would report an error at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(arguments: list[str], began: float) -> int:
    match arguments:
        case ["--import", module, *rest]:
            _let_be_found()
            import_module_of_user(module)
            return _run(rest, began)
        case ["--backend", choice, *rest]:
            op, is_choice, backend = choice.partition("=")
            if not is_choice:
                raise UserError(f"--backend {choice}: must be OP=BACKEND, as in ssd=reference")
            return _run_with_backend(op, backend, rest, began)
        case ["--import" | "--backend" as option]:
            raise UserError(f"{option} takes a value: --import MODULE, --backend OP=BACKEND")
        case [] | ["-h" | "--help", *_]:
            print(_help())
            return 0
        case ["--version", *_]:
            print(f"hnet-lm {importlib.import_module('hnet_lm').__version__}")
            return 0
        case [name, *rest] if name in COMMANDS:
            command = parse_command(name, rest)
            if hasattr(command, "began"):  # a command with a time budget, which includes imports
                command = dataclasses.replace(command, began=began)
            return command.run() or 0
        case [name, *_]:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(COMMANDS)}"
            raise UserError(f"unknown command {name!r}; {hint}")
    raise AssertionError(arguments)


def _let_be_found() -> None:
    """Make modules of the current folder importable, as `python -m` does; last, so that they shadow no other."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _run_with_backend(op: str, backend: str, arguments: list[str], began: float) -> int:
    dispatch = importlib.import_module("hnet_lm.ops.dispatch")
    with contextlib.ExitStack() as choice:
        try:
            choice.enter_context(dispatch.use_backend(**{op: backend}))
        except ValueError as error:
            raise UserError(f"--backend {op}={backend}: {error}") from error
        return _run(arguments, began)


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {line}" for name, line in COMMANDS.items())
    return (
        "usage: hnet-lm [--import MODULE] [--backend OP=BACKEND] COMMAND [arguments]\n\n"
        "Hierarchical byte-level sequence models with learned dynamic chunking (H-Net).\n\n"
        f"commands:\n{commands}\n\n"
        "--import MODULE imports a module of your own first; what it defines can be named in configurations.\n"
        "--backend OP=BACKEND runs an op on another backend, such as ssd=reference.\n"
        "hnet-lm COMMAND --help lists a command's arguments; hnet-lm --version prints the version."
    )


def module_of(command: str) -> ModuleType:
    """The module of a command; if the name is a Python keyword, with a `_`."""
    file = f"{command}_" if keyword.iskeyword(command) else command.replace("-", "_")
    return importlib.import_module(f"hnet_lm.cli.{file}")


def parse_command(name: str, arguments: list[str]) -> Any:
    """The command's dataclass, filled from its arguments. Raises UserError for arguments that do not fit."""
    import tyro

    module = module_of(name)
    cli = functools.partial(tyro.cli, prog=f"hnet-lm {name}", config=(tyro.conf.FlagCreatePairsOff,))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            if hasattr(module, "parse"):  # a command with defaults from a file
                return module.parse(arguments, cli)
            return cli(module.Command, args=arguments)
    except SystemExit as exit:
        if not exit.code:  # --help
            raise
        raise UserError(f"{name}: {_one_line(complaint.getvalue())}; see hnet-lm {name} --help") from None


def _one_line(box: str) -> str:
    """tyro's message, which is several lines in a box, as one line without the box and the help."""
    rows = [re.sub(r"[│╭╮╰╯]", "", row).strip() for row in box.splitlines()[1:]]
    sections = re.split("[─-]{8,}", " ".join(rows))  # lines of hyphens if the output is not UTF-8
    said = [section.strip() for section in sections if not re.search("full helptext|Argument helptext", section)]
    return "; ".join(re.sub(r"\s+", " ", section).rstrip(".") for section in said if section)
