"""Files around the package that name its facts: they agree, and the workflows are ones that GitHub takes."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
DEMO_EXTRA = "plot"
MOST_PACKAGES = 24
"""That `make demo` may install beside torch and what torch brings, hnet-lm itself among them."""


def yaml(path: Path) -> dict:
    return YAML(typ="safe").load(path.read_text())


def test_the_workflows_fit_their_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.stem for path in WORKFLOWS} == {"checks", "release"}


def test_the_workflows_try_every_python_that_is_promised() -> None:
    promised = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)]
    matrix = yaml(ROOT / ".github/workflows/checks.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == promised == ["3.11", "3.12", "3.13", "3.14"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]


def test_files_named_in_workflows_exist() -> None:
    for path in WORKFLOWS:
        for name in re.findall(r"tests/\w+\.py", path.read_text()):
            assert (ROOT / name).exists(), name


def test_the_citation_is_of_this_version() -> None:
    citation = yaml(ROOT / "CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_issue_templates_are_forms(path: Path) -> None:
    form = yaml(path)
    assert path.stem == "config" or {"name", "description", "body"} <= form.keys()


def test_every_extra_that_a_message_names_exists() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r'import_leaf\(\s*f?"[^"]+", "(\w+)"', source)) | set(
        re.findall(r"hnet-lm\[(\w+)\]", source)
    )
    assert {"train", "plot", "serve", "eval", "hf"} <= named
    assert named <= PROJECT["optional-dependencies"].keys()


def test_the_demo_installs_little() -> None:
    """Counted from the metadata of what is installed here, as pip would resolve it for `make demo`."""
    from_torch = closure(["torch"])
    needed = closure([*PROJECT["dependencies"], *PROJECT["optional-dependencies"][DEMO_EXTRA]])
    assert f"'.[{DEMO_EXTRA}]'" in (ROOT / "Makefile").read_text()
    own = needed - from_torch
    assert {"numba", "rich", "matplotlib"} <= own
    assert len(own) + 1 <= MOST_PACKAGES, sorted(own)


def closure(requirements: list[str]) -> set[str]:
    """The packages that requirements bring, themselves included; without extras, on this system."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += [Requirement(text) for text in distribution(name).requires or []]
    return found


def test_the_lock_has_every_extra_and_what_it_needs() -> None:
    """`uv lock --check` compares all of it, where there is a network."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    (ours,) = [package for package in packages if package["name"] == PROJECT["name"]]
    extras = PROJECT["optional-dependencies"]
    assert set(ours["metadata"]["provides-extras"]) == extras.keys()
    wanted = sum(len(needed) for needed in extras.values()) + len(PROJECT["dependencies"])
    assert len(ours["metadata"]["requires-dist"]) == wanted
