"""Where the tokens of Python source start, by Python's own tokenizer; and whether a text is Python at all."""

import ast
import tokenize
import warnings
from collections.abc import Iterator

import numpy as np

from hnet_lm.errors import DataError
from hnet_lm.inspect.characters import utf8_lengths

_UNSEEN = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}
_SAYING = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.Call)
_NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)  # as documented
MAX_TRIES = 20


def python_offsets(data: bytes, is_whole: bool = True) -> np.ndarray:
    """The first byte of every name, number, string, operator and comment.

    Raises DataError, with the line, for text that is not Python. For the beginning of a text (`is_whole` false), the
    tokens before the cut.
    """
    text = data.decode("utf-8", "surrogateescape")
    lines = text.splitlines(keepends=True) if "\r" in text else text.split("\n")
    if "\r" not in text:
        lines = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    line_starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])])
    lengths = utf8_lengths(text)
    byte_of_character = np.concatenate([[0], np.cumsum(lengths)])
    starts: list[int] = []
    try:
        for token in tokenize.generate_tokens(iter([*lines, ""]).__next__):
            if token.type not in _UNSEEN and token.string:
                starts.append(int(line_starts[token.start[0] - 1]) + token.start[1])
    except (tokenize.TokenError, SyntaxError, StopIteration) as error:
        if is_whole:
            raise DataError(f"the text cannot be tokenized as Python: {_reason(error)}") from None
    return byte_of_character[np.array(starts, dtype=np.int64)]


def is_python(data: bytes, is_whole: bool = True) -> bool:
    """Whether the text, up to an unfinished statement at its end, is Python that does or defines something.

    So a word or a sentence that happens to parse (`yes`, `"quoted"`) is not Python.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return any(_does_something(candidate) for candidate in _candidates(text, is_whole))


def _candidates(text: str, is_whole: bool) -> Iterator[str]:
    yield text
    lines = text.split("\n")
    tries = 0
    for end in range(0 if is_whole else len(lines) - 1, 0, -1):  # before the last statements of the outermost level
        if lines[end][:1].strip():
            yield "\n".join(lines[:end])
            tries += 1
            if tries == MAX_TRIES:
                return


def _does_something(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in strings
        try:
            tree = ast.parse(text)
        except _NOT_PYTHON:
            return False
    return "\n" in text.strip() and any(isinstance(node, _SAYING) for node in ast.walk(tree))


def _reason(error: Exception) -> str:
    message, place = error.args[0], error.args[1] if len(error.args) > 1 else None
    line = place[1] if isinstance(error, SyntaxError) and place else place[0] if place else "?"
    return f"line {line}: {message}"
