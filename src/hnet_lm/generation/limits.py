"""How much an engine takes on at once."""

from dataclasses import dataclass

from hnet_lm.errors import UserError


@dataclass(frozen=True)
class EngineLimits:
    """Limits of an engine; what does not fit now waits, and what can never fit is refused."""

    max_active: int = 64
    """Requests that run at once."""
    prefill_bytes: int = 2048
    """Prompt bytes read in a step, of all requests together; running requests wait that long for their next byte."""
    max_state_bytes: int = 2**30
    """Bytes of state that the active requests may come to have."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name} must be a whole number, 1 or more, got {value!r}")
