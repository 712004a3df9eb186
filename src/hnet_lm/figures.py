"""Figures in fonts that have their characters. A leaf: needs matplotlib.

matplotlib draws a box for a character that its font does not have. Here every text of a figure gets the fonts that have
its characters, of all that the machine has: matplotlib keeps a list of them between runs, which does not know a font
that was installed later, so where that list is not enough the machine is searched anew. What no font has is returned.
"""

import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager, get_font
from matplotlib.text import Text

KINDS = ("png", "pdf", "svg")
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK TC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "SimHei",
    "Noto Emoji",
)
UNDRAWN = frozenset("\n\t\u200b\u200c\u200d\u2060\ufe0e\ufe0f\ufeff")  # never seen, so no font needs them


def write_figure(
    figure: Figure, file: str | Path | IO[bytes], *, kind: str = "png", dpi: int = 150, fonts: Sequence[str] = FONTS
) -> str:
    """Write the figure, of a kind in `KINDS`; the characters that had to be drawn as boxes, since no font has them.

    `fonts` are family names, the preferred ones first; others are taken for what these do not have.
    """
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    for text in texts:  # half of a surrogate pair, as in a file name that is not UTF-8, cannot be drawn at all
        text.set_text(text.get_text().encode("utf-8", "replace").decode("utf-8"))
    needed = {ord(character) for text in texts for character in text.get_text() if character not in UNDRAWN}
    families, missing = _families(needed, fonts)
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # said better by who gets `missing`
        figure.savefig(file, format=kind or "png", dpi=dpi)
    return "".join(map(chr, sorted(missing)))


def boxes_note(missing: str) -> str:
    """What to tell the user of a figure about the characters that `write_figure` returned."""
    shown = missing[:10] + ("..." if len(missing) > 10 else "")
    number = f"{len(missing)} characters" if len(missing) > 1 else "a character"
    return (
        f"no font on this machine has {number} of it ({shown}), drawn as boxes; install one that does, such as Noto "
        "(on Debian: apt install fonts-noto-cjk for Chinese, Japanese and Korean, fonts-noto for other scripts)"
    )


def _families(needed: Collection[int], preferred: Sequence[str]) -> tuple[list[str], set[int]]:
    """Families that together have the characters, and the characters that none has."""
    families: list[str] = []
    missing = set(needed)
    for name, path in _fonts(preferred):
        if not missing:
            break
        if name not in families and (has := missing & _characters(path)):
            families.append(name)
            missing -= has
    return families, missing


def _fonts(preferred: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and files: the preferred fonts, the others that matplotlib knows, those that it does not know yet."""
    known = [(font.name, font.fname) for font in fontManager.ttflist if _is_for_text(font)]
    known.sort(key=lambda font: preferred.index(font[0]) if font[0] in preferred else len(preferred))
    yield from known
    files = {file for _, file in known}
    for file in sorted(set(findSystemFonts()) - files):
        before = len(fontManager.ttflist)
        try:
            fontManager.addfont(file)
        except (OSError, RuntimeError, ValueError):  # a font of pictures, or a damaged one
            continue
        yield from ((font.name, font.fname) for font in fontManager.ttflist[before:] if _is_for_text(font))


def _is_for_text(font: FontEntry) -> bool:
    """Upright, and none of matplotlib's own that have a box for every character, or mathematics under other codes."""
    return font.style == "normal" and not font.name.startswith(("Last Resort", "cm", "STIXNon", "STIXSize"))


def _characters(path: str) -> set[int]:
    try:
        return set(get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):  # removed since the list was made, or unreadable
        return set()
