"""JSON as it goes over the wire: bytes, on one line for every reader of lines.

U+0085, U+2028 and U+2029 are escaped: many line readers (httpx's, requests', Python's own `splitlines`) end a line at
them, and would tear a server-sent event. A lone surrogate, which UTF-8 does not have, is escaped too.
"""

import json
from typing import Any


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8. Raises ValueError for a number that JSON does not have, such as NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text.encode("utf-8", "backslashreplace")
