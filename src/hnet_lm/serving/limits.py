"""What clients may ask for. Anything beyond is refused with an error that names the limit."""

from dataclasses import dataclass

from hnet_lm.checks import require_number, require_whole
from hnet_lm.errors import UserError


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request, of its connection, and of the number of requests that may wait."""

    max_body_bytes: int = 2**20
    """Bytes of a request's body."""
    max_body_seconds: float = 10.0
    """Time a client may take to send the body."""
    max_head_seconds: float = 10.0
    """Time a client may take to send the head: the request line and the headers."""
    max_stall_seconds: float = 30.0
    """Time a client may go without reading any of its answer."""
    max_prompt_bytes: int = 32768
    """Bytes of a prompt, or of a text to cut into chunks or to embed."""
    max_new_bytes: int = 8192
    """New bytes per completion."""
    max_texts: int = 64
    """Completions (n times prompts) or embeddings that one request may ask for."""
    max_total_bytes: int = 2**20
    """Bytes that all completions of one request may have, their prompts counted for each."""
    max_reported_numbers: int = 2**22
    """Numbers that one answer may report: log-probabilities, with those of the likeliest bytes, and boundaries."""
    max_waiting: int = 128
    """Completions that may wait for a slot, and texts that may wait to be chunked or embedded; per model."""
    max_waiting_seconds: float = 30.0
    """Estimated time that a completion may have to wait for others before it begins."""
    max_request_seconds: float = 300.0
    """Time from a request's arrival to the end of its answer, waiting included."""
    max_connections: int = 1000
    """Connections that may be open; fewer where the system allows fewer open files."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_seconds"):
                require_number(name, value, above=0, error=UserError)
            else:
                require_whole(name, value, 0 if name == "max_waiting" else 1, error=UserError)


@dataclass(frozen=True)
class RateLimits:
    """What a client may ask for per minute. None: no limit.

    Bytes are those that `usage` counts: of prompts and other texts, and of completions.
    """

    requests_per_key: int | None = None
    """Requests per minute with one API key."""
    bytes_per_key: int | None = None
    """Bytes per minute with one API key."""
    requests_per_address: int | None = None
    """Requests per minute from one address, including those with a wrong key."""
    bytes_per_address: int | None = None
    """Bytes per minute from one address."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                require_whole(name, value, 1, error=UserError)
