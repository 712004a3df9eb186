"""What `hnet-lm export NAME` runs: a class whose fields are the command's arguments."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Export(ABC):
    """A format as a command. Its docstring is the description, its fields are further arguments."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A saved directory, or hf:owner/name."""
    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIRECTORY")]
    """Where to write; it may not be there yet."""

    @abstractmethod
    def run(self) -> int | None:
        """Write, print what was written, and return an exit code; None is 0. Raises UserError for a user's mistake."""
