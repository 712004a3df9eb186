"""The files that docs/extending.md shows whole."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
FILES = dict(re.findall(r"^`(\w+)\.py`:\n\n```python\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE))
