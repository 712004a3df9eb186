"""Input and output of a terminal or a pipe: JSON that any encoding can print, and arguments as their bytes."""

import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

# JSON allows them unescaped, but many readers end a line there.
_LINE_SEPARATORS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}


def print_json(facts: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> None:
    """One JSON value, which no reader of lines cuts in two. Numbers that are not finite are null; characters that the
    output does not have are escaped."""
    print(json_text(facts, indent=indent, ascii_only=not is_unicode(), default=default), flush=True)


def json_text(
    facts: Any, *, indent: int | None = None, ascii_only: bool = False, default: Callable[[Any], Any] | None = None
) -> str:
    """The value as `print_json` prints it."""
    text = json.dumps(_finite(facts), indent=indent, ensure_ascii=ascii_only, allow_nan=False, default=default)
    return text.translate(_LINE_SEPARATORS)


def is_unicode() -> bool:
    """Whether standard output has every character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def typed_bytes(text: str) -> bytes:
    """An argument or a line of a terminal as UTF-8; bytes that are not UTF-8, which Python marks, are as typed."""
    return text.encode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    """A name for a title, without characters that no font and no encoding has."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
