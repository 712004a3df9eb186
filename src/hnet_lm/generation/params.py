"""How one request wants its bytes chosen, checked when it is made."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from hnet_lm.checks import require_bool, require_number, require_whole
from hnet_lm.errors import UserError, unknown_key

MAX_LOGPROBS = 20


class RequestError(UserError):
    """A request that cannot be served: a parameter out of range, a prompt that never fits."""


@dataclass(frozen=True)
class SamplingParams:
    """Parameters of one request. The defaults sample from the model's own distribution.

    A model of tokens chooses tokens: what is said of bytes here holds for those, but `max_new_bytes` counts bytes.

    Applied in this order: bytes that may not come (`valid_utf8`), repetition penalty, temperature, top-k, top-p of what
    top-k left, min-p. The likeliest byte always stays.
    """

    max_new_bytes: int = 256
    temperature: float = 1.0
    """0 is greedy: the likeliest byte, of equal ones the smallest."""
    top_k: int = 0
    """Keep the k likeliest bytes; 0 keeps all."""
    top_p: float = 1.0
    """Keep the likeliest bytes until their probabilities reach this sum."""
    min_p: float = 0.0
    """Drop bytes less likely than this share of the likeliest one."""
    repetition_penalty: float = 1.0
    """Above 1: logits of bytes that the prompt or the output holds are divided by it (multiplied where negative)."""
    seed: int | None = None
    """The same seed gives the same bytes, whatever else runs beside; None draws a fresh one."""
    stop: tuple[str | bytes, ...] = ()
    """Output ends before the first of these that comes."""
    logprobs: int | None = None
    """Report each byte's log-probability, and those of so many likeliest bytes; None reports nothing."""
    valid_utf8: bool = False
    """Bytes that cannot continue a valid character get no probability; the end comes only between characters."""
    ignore_eos: bool = False
    """The end of the text gets no probability: exactly `max_new_bytes` bytes, unless a stop string comes."""

    def __post_init__(self) -> None:
        require_whole("max_new_bytes", self.max_new_bytes, 0, error=RequestError)
        require_number("temperature", self.temperature, 0, error=RequestError)
        require_whole("top_k", self.top_k, 0, error=RequestError)
        require_number("top_p", self.top_p, 0, 1, error=RequestError)
        require_number("min_p", self.min_p, 0, 1, error=RequestError)
        require_number("repetition_penalty", self.repetition_penalty, above=0, error=RequestError)
        if self.seed is not None:
            require_whole("seed", self.seed, -(2**63), 2**64 - 1, error=RequestError)
        if self.logprobs is not None:
            require_whole("logprobs", self.logprobs, 0, MAX_LOGPROBS, error=RequestError)
        for name in ("valid_utf8", "ignore_eos"):
            require_bool(name, getattr(self, name), error=RequestError)
        if b"" in self.stop_bytes:
            raise RequestError("a stop string must not be empty: it would stop before the first byte")

    @property
    def stop_bytes(self) -> tuple[bytes, ...]:
        """The stop strings as bytes."""
        given = [self.stop] if isinstance(self.stop, str | bytes) else self.stop
        return tuple(as_bytes(text, f"stop[{index}]") for index, text in enumerate(given))

    @classmethod
    def from_options(cls, **options: Any) -> Self:
        """From keyword options; an unknown one is an error that names the nearest known one."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in options:
            if key not in known:
                raise unknown_key(key, known, "sampling parameters")
        return cls(**options)


def as_bytes(text: str | bytes, where: str) -> bytes:
    """UTF-8 of a string; bytes as they are. Raises RequestError for anything else and for lone surrogates."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise RequestError(f"{where} must be a string or bytes, got {type(text).__name__}")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        bad = f"U+{ord(text[error.start]):04X}"
        raise RequestError(
            f"{where}: character {error.start} is the lone surrogate {bad}, which no UTF-8 holds; give bytes instead"
        ) from None
