"""What JSON Schema cannot say of a request: schemathesis loads this file and leaves out bodies that do not fit."""

from typing import Any

import schemathesis

MAX_TEXTS = 4


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """All completions of a request count together: `n` times the prompts."""
    if not isinstance(body, dict) or not isinstance(body.get("prompt"), list) or not isinstance(body.get("n"), int):
        return True
    num_prompts = 1 if all(isinstance(item, int | float) for item in body["prompt"]) else len(body["prompt"])
    return num_prompts * body["n"] <= MAX_TEXTS or num_prompts > MAX_TEXTS or body["n"] > MAX_TEXTS
