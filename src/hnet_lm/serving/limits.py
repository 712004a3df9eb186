"""What a client may ask for. What is beyond is refused with an error that names the limit."""

from dataclasses import dataclass

from hnet_lm.errors import UserError


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request, and how many may wait."""

    max_body_bytes: int = 2**20
    """Bytes of a request's body."""
    max_body_seconds: float = 10.0
    """Time a client may take to send the body."""
    max_prompt_bytes: int = 32768
    """Bytes of a prompt, or of a text to cut into chunks or to embed."""
    max_new_bytes: int = 8192
    """Bytes that a completion may have."""
    max_texts: int = 64
    """Completions (n times prompts) or embeddings that one request may ask for."""
    max_waiting: int = 128
    """Completions that may wait for a slot, and texts that may wait to be chunked or embedded; for each model."""
    max_request_seconds: float = 300.0
    """Time from a request's arrival to the end of its answer, waiting included."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "max_waiting" else 1
            if name.endswith("_seconds"):
                if not 0 < value < float("inf"):
                    raise UserError(f"{name} must be a number of seconds above 0, got {value!r}")
            elif isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"{name} must be a whole number, {least} or more, got {value!r}")
