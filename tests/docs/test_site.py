"""`make docs`: the site is built without a warning, has every page and every name of the reference, and runs a model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from installed_wheel import ROOT

DOCS = ROOT / "docs"


@pytest.mark.long
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    target = re.search(r"^docs:.*\n\t\$\(BIN\)/python (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert target
    arguments = (
        target[1].replace("build/doctrees", str(tmp_path / "doctrees")).replace("build/docs", str(tmp_path / "site"))
    )
    assert "--fail-on-warning" in arguments
    done = subprocess.run([sys.executable, *arguments.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]:
        assert (tmp_path / "site" / page.relative_to(DOCS).with_suffix(".html")).exists(), page
    for page in (DOCS / "api").glob("*.md"):
        html = (tmp_path / "site/api" / page.with_suffix(".html").name).read_text(encoding="utf-8")
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert f'id="{name}"' in html, name
