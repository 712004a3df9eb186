"""What `hnet-lm evaluate NAME` runs: a class whose fields are the command's arguments."""

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation(ABC):
    """A measure as a command. Its docstring is the description, its fields are the arguments (names, types, defaults
    and the docstrings below them)."""

    @abstractmethod
    def run(self) -> int | None:
        """Measure, print, and return an exit code; None is 0. Raises UserError for a user's mistake."""
