"""What stops a run: one clear line each, as every error that the user can mend."""

from pathlib import Path

from hnet_lm.checkpoint import reason
from hnet_lm.errors import UserError


class TrainingError(UserError):
    """A run that cannot begin or go on."""


class CannotWrite(TrainingError):
    """A file of the run that could not be written: which one, and why."""

    @classmethod
    def file(cls, path: Path, error: BaseException) -> "CannotWrite":
        return cls(f"{path}: cannot be written: {reason(error)}")
