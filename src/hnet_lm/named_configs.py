"""The configurations that come with the package, by name: architectures (`hnet_2stage_L`) and runs (`english`).

Whatever takes a configuration takes such a name as well, with or without its suffix. A file that exists always wins.
"""

import difflib
import os
from pathlib import Path
from typing import Literal

from hnet_lm.errors import ConfigError
from hnet_lm.inputs import STANDARD_INPUT, is_remote, local

Kind = Literal["models", "runs"]
FOLDER = Path(__file__).parent / "configs"
SUFFIX: dict[Kind, str] = {"models": ".json", "runs": ".toml"}
SHOWN = 3
"""Names that an error lists as the nearest."""


def names(kind: Kind) -> list[str]:
    """What there is, without suffixes."""
    return sorted(path.stem for path in (FOLDER / kind).glob(f"*{SUFFIX[kind]}"))


def named(name: str, *kinds: Kind) -> Path | None:
    """The file of that name in the package, of the first kind that has it; None if there is none."""
    for kind in kinds:
        if name.removesuffix(SUFFIX[kind]) in names(kind):
            return FOLDER / kind / f"{name.removesuffix(SUFFIX[kind])}{SUFFIX[kind]}"
    return None


def config_file(source: str | Path, *kinds: Kind) -> str | Path:
    """The input to read: `source` itself if it is one, else the configuration of that name in the package.

    Raises ConfigError, which lists the nearest names, if there is neither.
    """
    name = str(source)
    path = local(name)
    if name == STANDARD_INPUT or is_remote(name) or (os.path.lexists(path) and not os.path.isdir(path)):
        return source
    found = named(name, *kinds)
    if found is None and not os.path.isdir(path):
        raise ConfigError(f"{source}: cannot be read: No such file or directory; {nearest_names(name, *kinds)}")
    return found or source


def seen_from(folder: Path, name: str, kind: Kind) -> str:
    """The path of what a file in `folder` means by `name`: a file as seen from there, else one in the package."""
    path = folder / local(name)
    return str(path if path.is_file() else named(name, kind) or path)


def nearest_names(name: str, *kinds: Kind) -> str:
    """The names in the package that are most like one it does not have, or all names, in words."""
    known = list(dict.fromkeys(known for kind in kinds for known in names(kind)))
    near = difflib.get_close_matches(Path(name).stem, known, n=SHOWN)
    return f"the nearest names that come with hnet-lm: {', '.join(near)}" if near else f"hnet-lm has {', '.join(known)}"
