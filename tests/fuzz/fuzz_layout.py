"""Layout strings: blocks, or a refusal; what is read says the layout."""

from itertools import groupby

from refusals import read_or_refused

from hnet_lm.layout import parse_layout

SEEDS = (b"m4", b"T1m4", b"M2t1T3", b"m0", b"m", b"x1", b"T9999m1", b"m9999m1")
MOST = 9999
"""Blocks of one count."""


def written(letter: str, count: int) -> str:
    """A run of blocks; letters may follow each other, so that there may be more than one count can say."""
    whole, rest = divmod(count, MOST)
    return f"{letter}{MOST}" * whole + (f"{letter}{rest}" if rest else "")


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    blocks = read_or_refused(lambda: parse_layout(text))
    if blocks is not None:
        letters = "".join({"mamba2": "m", "attention": "t"}[block.mixer] for block in blocks)
        letters = "".join(x.upper() if block.has_mlp else x for x, block in zip(letters, blocks, strict=True))
        runs = "".join(written(letter, len(list(run))) for letter, run in groupby(letters))
        assert parse_layout(runs) == blocks
