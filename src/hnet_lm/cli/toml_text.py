"""Tables as TOML. A leaf: the only file of this package that needs `tomli_w`."""

from typing import Any

import tomli_w


def to_text(table: dict[str, Any]) -> str:
    return tomli_w.dumps(table)
