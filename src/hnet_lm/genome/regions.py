"""Names of regions as genome browsers and samtools write them: `chr20:59,000,001-59,100,000`."""

import re

from hnet_lm.errors import DataError

_STRETCH = re.compile(r"(.+):([\d,]{1,20})-([\d,]{1,20})", re.ASCII)
MAX_DIGITS = 15


def parse_region(name: str) -> tuple[str, int, int] | None:
    """Sequence, start (from 0) and end (left out) of NAME:START-END, with or without commas; None for another name.

    Raises DataError where the numbers are no stretch.
    """
    match = _STRETCH.fullmatch(name)
    if match is None:
        return None
    first, last = (number.replace(",", "") for number in match.groups()[1:])
    if not (first and last and max(len(first), len(last)) <= MAX_DIGITS) or not 1 <= int(first) <= int(last):
        raise DataError(f"{name}: no region; write NAME:START-END, counted from 1, with START no greater than END")
    return match[1], int(first) - 1, int(last)


def region_name(sequence: str, start: int, end: int) -> str:
    """The name of positions `start .. end - 1`, counted from 0."""
    return f"{sequence}:{start + 1:,}-{end:,}"


def other_name(sequence: str) -> str:
    """What another assembly calls it: `chr1` is `1`, and `1` is `chr1`."""
    return sequence.removeprefix("chr") if sequence.startswith("chr") else f"chr{sequence}"
