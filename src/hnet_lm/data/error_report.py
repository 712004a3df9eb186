"""How damaged files and records are handled: `raise` or `skip`, as a configuration says."""

import logging
from collections.abc import Callable

from hnet_lm.data.config import OnError
from hnet_lm.errors import DataError

logger = logging.getLogger(__name__)


def raise_error(error: DataError) -> None:
    """The default: every error is raised."""
    raise error


class ErrorReport:
    """Raises a reported error, or counts it; the first one counted is printed."""

    def __init__(self, on_error: OnError, announce: Callable[[str], None] = logger.warning) -> None:
        self._on_error = on_error
        self._announce = announce
        self.num_skipped = 0
        self.first: DataError | None = None

    def __call__(self, error: DataError) -> None:
        if self._on_error == "raise":
            raise error
        if self.first is None:
            self.first = error
            self._announce(f"skipped: {error} (further ones are only counted)")
        self.num_skipped += 1
