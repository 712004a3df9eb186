"""Links lead somewhere, every page is in the site, and every public name in its reference."""

import importlib
import inspect
import json
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import hnet_lm
from installed_wheel import ROOT

DOCS = ROOT / "docs"
FOLDERS = ("docs", "src", "benchmarks", "experiments", "tests", ".github")
PAGES = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<(https?:[^>]*)>")
FULL_MODULES = (
    "losses",
    "model",
    "ops",
    "generation",
    "generation.stepper",
    "evaluation",
    "inspect",
    "genome",
    "testing",
)
"""Public modules all of whose names stand in the reference; of the others those that somebody outside needs."""


def text_of(path: Path) -> str:
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return path.read_text(encoding="utf-8")


def links(path: Path) -> Iterator[str]:
    for match in LINK.finditer(CODE.sub("", text_of(path))):
        yield match[1] or match[2]


def anchors(path: Path) -> set[str]:
    """Those that GitHub and the site give to headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def fault(path: Path, link: str) -> str | None:
    """What is wrong with a link of a page, or None."""
    url = urlsplit(link)
    if url.scheme or url.netloc:
        is_good = url.scheme in ("https", "http") and re.fullmatch(r"[\w-]+(\.[\w-]+)+|127\.0\.0\.1(:\d+)?", url.netloc)
        return None if is_good and not link.endswith((".", ",")) else "not a web address"
    target = (path.parent / url.path).resolve() if url.path else path
    if not target.is_relative_to(ROOT) or not target.exists():
        return "no such file"
    if url.fragment and (target.suffix != ".md" or url.fragment not in anchors(target)):
        return "no such heading"
    return None


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    assert not {link: why for link in links(path) if (why := fault(path, link))}


@pytest.mark.parametrize(
    "link", ["no/such.md", "../README.md#nothing", "https://", "ftp://a.example/b", "../../x", "http:a.b"]
)
def test_a_dead_link_is_found(link: str) -> None:
    assert fault(DOCS / "index.md", link)


def test_there_are_links() -> None:
    assert sum(len(list(links(path))) for path in PAGES) > 100
    assert fault(DOCS / "gpu.md", "training.md#one-node-several-gpus") is None


def test_the_readme_is_absolute_on_pypi() -> None:
    """As the workflow `release` writes it: every link begins with an address, and the rest of it is a file here."""
    absolute = runpy.run_path(str(ROOT / ".github/absolute_links.py"))["absolute"]
    there = "https://host.example/owner/name"
    text = absolute((ROOT / "README.md").read_text(encoding="utf-8"), there, "v1")
    found = [match[1] for match in LINK.finditer(CODE.sub("", text))]
    own = [link.removeprefix(there) for link in found if link.startswith(there)]
    assert len(own) > 15
    assert all(link.startswith("https://") for link in found)
    for link in own:
        kind, tag, path = link[1:].split("/", 2)
        assert (kind, tag) == ("raw" if path.endswith(".png") else "blob", "v1")
        assert (ROOT / path.partition("#")[0]).exists(), path


def test_every_page_is_in_the_site() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    api = (DOCS / "api/index.md").read_text(encoding="utf-8")
    listed = {
        Path(link) for link in (*links(DOCS / "index.md"), *(f"api/{link}" for link in links(DOCS / "api/index.md")))
    }
    included = {"contributing.md", "security.md", "changelog.md"}  # linked by their names in the root
    for page in [*DOCS.rglob("*.md"), *NOTEBOOKS]:
        name = page.relative_to(DOCS)
        if name.name != "index.md":
            assert name in listed or str(name) in included, name
            contents = api if name.parent.name == "api" else index
            entry = name.stem if name.parent.name == "api" else name.with_suffix("").as_posix()
            assert re.search(rf"^(.* <)?{entry}>?$", contents, flags=re.MULTILINE), name


def test_every_public_name_is_in_the_reference_once() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    entries = re.findall(r"^\.\. auto(class|function):: ([\w.]+)$", pages, flags=re.MULTILINE)
    values = {name: resolved(name) for _, name in entries}
    assert {name: inspect.isclass(value) for name, value in values.items()} == {
        n: kind == "class" for kind, n in entries
    }
    documented = Counter(id(values[name]) for _, name in entries)
    assert not [name for name, value in values.items() if documented[id(value)] > 1]
    for module in (hnet_lm, *(importlib.import_module(f"hnet_lm.{name}") for name in FULL_MODULES)):
        for name in dir(hnet_lm) if module is hnet_lm else module.__all__:
            value = getattr(module, name)
            if (inspect.isclass(value) or inspect.isfunction(value)) and not name.startswith("_"):
                assert id(value) in documented, f"{module.__name__}.{name}"


def resolved(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
