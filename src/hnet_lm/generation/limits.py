"""How much an engine takes on at once."""

from dataclasses import dataclass, replace
from typing import Self, get_args

from hnet_lm.checks import require_choice, require_whole
from hnet_lm.errors import UserError
from hnet_lm.generation.stepper import KeysValues
from hnet_lm.model import HNetLM

LEAST_POOL_BYTES = 2**30


@dataclass(frozen=True)
class EngineLimits:
    """Limits of an engine; what does not fit now waits, and what can never fit is refused."""

    max_active: int = 64
    """Requests that run at once. All state but keys and values is of a fixed size and is allocated for so many."""
    prefill_bytes: int = 2048
    """Prompt bytes read in a step, of all requests together; running requests wait that long for their next byte.

    Fewer behind a long context that attention sees to its beginning: then each takes longer.
    """
    pool_bytes: int | None = None
    """Bytes for keys and values of all requests; None: as many as the model's weights take, 1 GiB at least."""
    keys_values: KeysValues | None = None
    """Type of keys and values; None: that of the weights. bfloat16 halves a float32 model's and rounds to 8 bits."""

    def __post_init__(self) -> None:
        for name in ("max_active", "prefill_bytes", "pool_bytes"):
            if name != "pool_bytes" or self.pool_bytes is not None:
                require_whole(name, getattr(self, name), 1, error=UserError)
        if self.keys_values is not None:
            require_choice("keys_values", self.keys_values, get_args(KeysValues), error=UserError)

    def for_requests(self, num_requests: int) -> Self:
        """The same limits with no more slots than there are requests, since each takes memory."""
        return replace(self, max_active=max(1, min(self.max_active, num_requests)))

    def pool_bytes_of(self, model: HNetLM) -> int:
        """The size of the pool for this model."""
        if self.pool_bytes is not None:
            return self.pool_bytes
        return max(LEAST_POOL_BYTES, sum(parameter.nbytes for parameter in model.parameters()))
