"""What the cuts of a model mean, as a part of the page that shows its chunks: figures, tables and bars.

It is made from what `hnet-lm evaluate boundaries --json` prints for each domain, and loads nothing.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from hnet_lm.inspect.characters import characters

Facts = Mapping[str, Sequence[Mapping[str, Any]]]
"""The stages of each domain, outermost first, as in the JSON."""

NUM_CHUNKS = 15
SPACE = "␣"
SCALE = (640, 46)
"""Width and height of the picture of one enrichment."""


def boundary_section(facts: Facts) -> str:
    """HTML of the figures of all domains, with one card per stage. Empty if nothing was measured."""
    cards = [_card(domain, number, stage) for domain, stages in facts.items() for number, stage in enumerate(stages)]
    if not cards:
        return ""
    return f'<div class="card">{_lengths(facts)}</div><div class="cards">{"".join(cards)}</div>'


def _lengths(facts: Facts) -> str:
    rows = []
    for domain, stages in facts.items():
        for number, stage in enumerate(stages):
            starts = [_percent(stage[key]) for key in ("starts_at_space", "starts_at_word")]
            lengths = [_number(stage[key], 2) for key in ("bytes_per_chunk", "chunk_length_sd")]
            stable = stage.get("stability") or {}
            f1 = [_number(stable.get(key), 3) for key in ("shift_f1", "changed_byte_f1")]
            rows.append([html.escape(domain), str(number), f"{stage['num_chunks']:,}", *lengths, *starts, *f1])
    headings = (
        *("domain", "stage", "chunks", "bytes per chunk", "sd", "at a space", "at a letter"),
        *("F1 after a shift", "F1 after a changed byte"),
    )
    return f"<h2>Lengths and stability</h2>{_table(headings, rows)}"


def _card(domain: str, number: int, stage: Mapping[str, Any]) -> str:
    title = f"{html.escape(domain)}, stage {number}"
    parts = [f"<h2>{title}</h2>", _enrichment(stage["enrichment"]), _agreements(stage["agreement"])]
    parts += [_phases(stage.get("codon_phases", ())), _common(stage["common_chunks"], stage["num_chunks"])]
    return f'<div class="card">{"".join(parts)}</div>'


def _enrichment(found: Mapping[str, Any]) -> str:
    """B on a line from 0, with its interval by chance."""
    if found["value"] is None:
        return "<p>No cut, so no boundary enrichment.</p>"
    width, height = SCALE
    most = 1.15 * max(found["value"], found["null_high"], 1.0)
    value, low, high, one = (width * x / most for x in (found["value"], found["null_low"], found["null_high"], 1.0))
    interval = f"{found['null_low']:.2f} to {found['null_high']:.2f}"
    said = f"Boundary enrichment B = {found['value']:.2f}; {interval} by chance (mean {found['null_mean']:.2f})"
    return (
        f"<p>{said}. The byte after a chunk start takes {found['value']:.2f} times the bits of the mean byte.</p>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{said}">'
        f'<line class="axis" x1="0" y1="18" x2="{width}" y2="18"/>'
        f'<rect class="null" x="{low:.1f}" y="8" width="{max(high - low, 2):.1f}" height="20"/>'
        f'<circle class="value" cx="{value:.1f}" cy="18" r="6"/>'
        f'<text x="{one:.1f}" y="42" text-anchor="middle">1 (chance)</text>'
        f'<text x="{value:.1f}" y="42" text-anchor="middle">{"B" if abs(value - one) > 60 else ""}</text></svg>'
    )


def _agreements(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return ""
    rows = [
        [html.escape(item["reference"])]
        + [_beside_chance(item[key], item[f"chance_{key}"]) for key in ("precision", "recall", "f1")]
        for item in found
    ]
    headings = ("cuts against", "precision, % (chance)", "recall, % (chance)", "F1, % (chance)")
    return _table(headings, rows)


def _beside_chance(value: float | None, chance: float | None) -> str:
    """A bar with a mark at chance level."""
    if value is None or chance is None:
        return ""
    shown = f"{100 * value:.1f} ({100 * chance:.1f})"
    bar = f'<i class="bar" style="width: {100 * value:.1f}%"></i>'
    mark = f'<i class="mark-chance" style="left: {100 * chance:.1f}%"></i>'
    return f'<span class="bars">{bar}{mark}</span>{shown}'


def _phases(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [html.escape(item["strand"]), f"{item['num_genes']:,}"]
        + [f"{100 * share:.1f}" if share == share else "" for share in item["shares"]]  # NaN of no cut
        for item in found
    ]
    headings = ("strand", "genes", "between codons, %", "after base 1", "after base 2")
    return _table(headings, rows) if rows else ""


def _common(found: Sequence[tuple[str, int]], num_chunks: int) -> str:
    most = max((number for _, number in found), default=1)
    rows = [
        f'<li><code>{html.escape(visible(text))}</code><span class="bars"><i class="bar" '
        f'style="width: {100 * number / most:.1f}%"></i></span>{100 * number / num_chunks:.1f} %</li>'
        for text, number in found[:NUM_CHUNKS]
    ]
    return f"<h3>Chunks most often</h3><ol>{''.join(rows)}</ol>" if rows else ""


def visible(text: str) -> str:
    """A chunk with visible spaces and unprintable characters."""
    return "".join(characters(text.encode()).glyphs).replace(" ", SPACE)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="figures"><tr>{head}</tr>{body}</table></div>'


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
