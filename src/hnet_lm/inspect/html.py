"""Chunks as one self-contained HTML page: no external assets, light and dark, usable for a megabyte of text.

The background alternates with the chunks of stage 0, and a band below the text with those of each further stage. The
page holds the text and the packed probabilities; its script (page.html) creates elements only for what is in view. DNA
has rows of a hundred bases with positions on the left, a ruler above, and annotated intervals below.
"""

import base64
import html
import json
import zlib
from importlib import resources
from typing import Any

import numpy as np

from hnet_lm.inspect.characters import NEWLINE, Characters, characters
from hnet_lm.inspect.place import Place, lanes
from hnet_lm.inspect.statistics import StageSummary, summarize
from hnet_lm.inspect.structure import Chunks

# by stage, (light, dark) colours of the even and of the odd chunks; further stages start over
_COLOURS = (
    (("#cfe1ff", "#27446f"), ("#ffe6c4", "#66491f")),
    (("#059669", "#34d399"), ("#db2777", "#f472b6")),
    (("#7c3aed", "#a78bfa"), ("#65a30d", "#a3e635")),
    (("#0891b2", "#22d3ee"), ("#dc2626", "#f87171")),
)
_BARS = ("#3d6fd0", "#7aa7ff")
"""Bars of stage 0, whose own colours are a background for text and too pale for bars."""
_BAND = 5
_HISTOGRAM_BARS = 24
_ROW_BASES = 100
_VIEWS = (
    '<span class="views" role="group" aria-label="What is shown">'
    '<button type="button" data-view="chunks" aria-pressed="true">Chunks</button>'
    '<button type="button" data-view="boundaries" aria-pressed="false">Boundaries</button></span>'
)


def render_html(chunks: Chunks, title: str, place: Place | None = None, *, boundaries: str = "") -> str:
    """The page as a string: about three bytes per byte of text and stage.

    `boundaries` is HTML about what the cuts mean (`evaluation.boundary_page`); a button shows it.
    """
    drawn = characters(chunks.data)
    num_torn = int(drawn.torn(chunks.stages[0].starts).sum()) if chunks.stages else 0
    torn = "character" if num_torn == 1 else f"{num_torn:,} characters"
    shadows = [f"0 {stage * (_BAND + 1)}px 0 -1px var(--band{stage})" for stage in range(1, len(chunks.stages))]
    fields = {
        "title": html.escape(title),
        "subtitle": f"{len(chunks.data):,} bytes, {len(drawn):,} characters",
        "num_bands": str(len(shadows)),
        "band_shadow": ", ".join(shadows) or "none",
        "stage_css": "\n".join(_stage_css(stage) for stage in range(len(chunks.stages))),
        "cards": "".join(_card(stage, summary) for stage, summary in enumerate(summarize(chunks))),
        "torn_note": f" A wavy line marks the {torn} inside which a chunk starts." if num_torn else "",
        "data": _data(chunks, drawn, place),
        "views": _VIEWS if boundaries else "",
        "boundaries": f'<main id="boundaries" hidden>{boundaries}</main>' if boundaries else "",
    }
    page = resources.files("hnet_lm.inspect").joinpath("page.html").read_text(encoding="utf-8")
    head, *parts = page.split("{{")
    return head + "".join(fields[name] + rest for name, rest in (part.split("}}", 1) for part in parts))


def _data(chunks: Chunks, drawn: Characters, place: Place | None) -> str:
    glyphs = [NEWLINE + "\n" if glyph == NEWLINE else glyph for glyph in drawn.glyphs]
    glyph_lengths = [len(glyph.encode("utf-16-le")) // 2 for glyph in glyphs]
    data = {
        "numBytes": len(chunks.data),
        "place": None if place is None else _place(place),
        "glyphs": "".join(glyphs),
        "byteLengths": _packed(drawn.ends - drawn.starts, np.uint8),
        "glyphLengths": _packed(np.array(glyph_lengths), np.uint8),
        "stages": [
            {
                "probs": _packed(np.rint(stage.boundary_prob.astype(np.float64) * 65535), np.uint16),
                "opens": _packed(np.packbits(stage.is_boundary, bitorder="little"), np.uint8),
            }
            for stage in chunks.stages
        ],
    }
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # so that no "</script>" ends the data early


def _place(place: Place) -> dict[str, Any]:
    """`lanes` are rows of intervals that do not overlap, each [start, end, name, strand]."""
    drawn = [[[a.start, a.end, a.name, a.strand] for a in lane] for lane in lanes(place.annotations)]
    return {"sequence": place.sequence, "origin": place.origin, "rowBases": _ROW_BASES, "lanes": drawn}


def _packed(values: np.ndarray, kind: type[np.unsignedinteger]) -> str:
    return base64.b64encode(zlib.compress(values.astype(np.dtype(kind).newbyteorder("<")).tobytes())).decode("ascii")


def _stage_css(stage: int) -> str:
    pairs = [f"light-dark({light}, {dark})" for light, dark in _COLOURS[stage % len(_COLOURS)]]
    what = "background" if stage == 0 else f"--band{stage}"
    rules = [f"#text .s{stage}-{parity} {{ {what}: {colour}; }}" for parity, colour in enumerate(pairs)]
    rules += [f".fill{stage}-{parity} {{ background: {colour}; }}" for parity, colour in enumerate(pairs)]
    rules.append(f".bar{stage} {{ fill: {'light-dark({}, {})'.format(*_BARS) if stage == 0 else pairs[0]}; }}")
    return "\n".join(rules)


def _card(stage: int, summary: StageSummary) -> str:
    where = "background" if stage == 0 else f"band {stage}"
    swatches = "".join(f'<span class="swatch fill{stage}-{parity}"></span>' for parity in (0, 1))
    figures = {
        "chunks": f"{summary.num_chunks:,}",
        "bytes per chunk": f"{summary.bytes_per_chunk:.2f}",
        "median": f"{summary.median_length:g}",
        "longest": f"{summary.max_length:,}",
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())
    return (
        f'<section class="card"><h2>{swatches} Stage {stage} <span class="quiet">({where})</span></h2>'
        f"<dl>{listed}</dl>{_histogram(stage, summary)}</section>"
    )


def _histogram(stage: int, summary: StageSummary) -> str:
    counts = summary.capped_histogram(_HISTOGRAM_BARS)
    width, height = 300, 70
    step = width / _HISTOGRAM_BARS
    greatest = max(counts, default=1)
    bars = []
    for index, count in enumerate(counts):
        tall = (height - 12) * count / greatest
        label = summary.length_label(index + 1, _HISTOGRAM_BARS)
        x = index * step
        bars.append(
            f'<rect class="bar{stage}" x="{x:.1f}" y="{height - 12 - tall:.1f}" width="{step - 1:.1f}" '
            f'height="{tall:.1f}"><title>{label} bytes: {count:,} ({count / summary.num_chunks:.1%})</title></rect>'
        )
        if index == 0 or (index + 1) % 4 == 0:
            is_last = index + 1 == _HISTOGRAM_BARS  # whose label would reach over the edge
            place, anchor = (width, "end") if is_last else (x + step / 2, "middle")
            bars.append(f'<text x="{place:.1f}" y="{height - 2}" text-anchor="{anchor}">{label}</text>')
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Chunk lengths of stage {stage}, in bytes">'
        f"{''.join(bars)}</svg>"
    )
