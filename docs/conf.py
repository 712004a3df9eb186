"""The documentation as a site: `make docs` writes it into build/docs/. The pages stay plain Markdown.

Docstrings are written as Markdown and read by Sphinx as reStructuredText; `plain_docstring` converts them. The page
without a server that the first page embeds is exported into the site from the model that comes with the package.
"""

import builtins
import re
import tomllib
from importlib.metadata import version as installed_version
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import hnet_lm
from hnet_lm.web.exporting import web_files

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
copyright = author
version = release = installed_version(project)

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["build"]
highlight_language = "sh"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # tests run the notebooks; the site shows what they hold

napoleon_use_ivar = True
napoleon_custom_sections = ["State"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": True, "exclude-members": "__init__, __new__"}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "images/icon.svg"
html_theme_options = {"top_of_page_buttons": []}
copybutton_exclude = ".linenos, .gp, .go"

PAGES = {"SECURITY.md": "security", "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog"}
"""Files of the repository's root that are pages of the site as well."""
LINK = re.compile(r"\[([^\[\]]+)\]\((\.\./[\w/.]+\.md)\)")


EMBEDDED = {"page": "english-small"}
"""Folders of the site with a page without a server, and the packaged model that runs there."""

FOR_SCREEN_READERS = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="On this page">',
    '<aside class="toc-drawer no-toc">': '<aside class="toc-drawer no-toc" aria-label="On this page">',
    '<a href="#" class="back-to-top': '<nav aria-label="Top"><a href="#" class="back-to-top',
    "<span>Back to top</span>\n        </a>": "<span>Back to top</span>\n        </a></nav>",
    "<pre><span></span>": '<pre tabindex="0"><span></span>',
    '<table class="docutils align-default">': '<table class="docutils align-default" tabindex="0">',
}
"""What Sphinx and its theme leave out: levels of headings, landmarks and their names, and focus for what scrolls."""


def link_outside(app: Sphinx, name: str, source: list[str]) -> None:
    """A link to Markdown outside docs/ goes to the page that includes it, or downloads it."""

    def rewritten(link: re.Match[str]) -> str:
        text, path = link.groups()
        target = (Path(app.srcdir, name).parent / path).resolve()
        if target.is_relative_to(app.srcdir):
            return link[0]
        page = PAGES.get(target.relative_to(ROOT).as_posix())
        return f"[{text}](/{page}.md)" if page else f"{{download}}`{text} <{path}>`"

    source[0] = LINK.sub(rewritten, source[0])


def link_included(app: Sphinx, path: Path, parent: str, source: list[str]) -> None:
    """The same for the files of the root, which link to each other by their names there."""
    if path.name in PAGES:
        for file, page in PAGES.items():
            source[0] = source[0].replace(f"]({file})", f"](/{page}.md)")


def plain_docstring(app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Markdown's code spans and indented blocks as reStructuredText writes them; every other sign is itself."""
    written: list[str] = []
    is_block = False
    for number, line in enumerate(lines):
        is_indented = line.startswith("    ")
        begins = is_indented and not is_block and not (number and lines[number - 1].strip())
        if begins:
            written += [".. code-block:: none", ""]
        is_block = begins or (is_block and (is_indented or not line.strip()))
        written.append(line if is_block else _inline(line))
    lines[:] = written


def unlink_builtins(app: Sphinx, document: nodes.document) -> None:
    """`bytes` in a signature is Python's type, and not the one attribute of this package that has its name."""
    for reference in list(document.findall(addnodes.pending_xref)):
        if reference.get("refdomain") == "py" and hasattr(builtins, reference["reftarget"]):
            reference.replace_self(nodes.Text(reference["reftarget"]))


def export_pages(app: Sphinx, exception: Exception | None) -> None:
    """The pages without a server that pages of the site embed."""
    if exception is not None or app.builder.format != "html":
        return
    for folder, model in EMBEDDED.items():
        for path, content in web_files(hnet_lm.load(model), model).items():
            file = Path(app.outdir, folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")


def complete_markup(app: Sphinx, exception: Exception | None) -> None:
    """Write what screen readers and keyboards need into the pages."""
    if exception is not None or app.builder.format != "html":
        return
    for file in Path(app.outdir).rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        if 'class="main"' in text and 'aria-label="Pages"' not in text:  # a page of the theme, written by this build
            for written, meant in FOR_SCREEN_READERS.items():
                text = text.replace(written, meant)
            file.write_text(text, encoding="utf-8")


def _inline(line: str) -> str:
    parts = re.split(r"`+([^`]+)`+", line)
    parts[::2] = (re.sub(r"([\\*|_])", r"\\\1", text) for text in parts[::2])
    parts[1::2] = (f"``{code}``" for code in parts[1::2])
    return "\\ ".join(parts)  # an escaped space is no space; it parts a code span from a letter beside it


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_outside)
    app.connect("include-read", link_included)
    app.connect("doctree-read", unlink_builtins)
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)  # before napoleon, at 500
    app.connect("build-finished", complete_markup)
    app.connect("build-finished", export_pages)
