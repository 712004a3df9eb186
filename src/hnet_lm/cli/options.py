"""Options that several commands have, their checks, and short names of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.checks import require_number, require_whole
from hnet_lm.errors import UserError

OutputPath = Annotated[str | None, tyro.conf.arg(aliases=("-o",), metavar="FILE")]
"""`--output`, `-o`: the file of a command that writes one; `-` is standard output."""


def require_at_least(least: float, **options: float | None) -> None:
    """Raises UserError for an option below the least value, or not finite; None is an option that was not given."""
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, int):
            require_whole(option, value, int(least), error=UserError)
        elif value is not None:
            require_number(option, value, least, error=UserError)


def names_of(runs: Sequence[str]) -> dict[str, str]:
    """For each run, once, the last part of its path; all of the path where that is not enough to tell them apart."""
    distinct = list(dict.fromkeys(runs))
    short = [Path(run).name or str(Path(run).absolute().name) for run in distinct]
    return dict(zip(distinct, short if len(set(short)) == len(short) else distinct, strict=True))
