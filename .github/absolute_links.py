"""Before a release, make the links of README.md absolute, so that it reads on PyPI as it does in the repository.

    python .github/absolute_links.py https://github.com/OWNER/NAME v1.2.3

The workflow `release` knows both; the file in the repository keeps links that work in any clone and on any branch.
"""

import re
import sys
from pathlib import Path

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")


def absolute(text: str, repository: str, tag: str) -> str:
    """Links to files go to their page, pictures to the file itself."""
    return LINK.sub(lambda m: f"{m[1]}[{m[2]}]({repository}/{'raw' if m[1] else 'blob'}/{tag}/{m[3]})", text)


if __name__ == "__main__":
    readme = Path(__file__).parents[1] / "README.md"
    readme.write_text(absolute(readme.read_text(encoding="utf-8"), *sys.argv[1:]), encoding="utf-8")
