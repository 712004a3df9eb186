"""How one request wants its bytes chosen, checked when it is made."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Self

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
        _whole("max_new_bytes", self.max_new_bytes, 0)
        _number("temperature", self.temperature, 0.0)
        _whole("top_k", self.top_k, 0)
        _number("top_p", self.top_p, 0.0, 1.0)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("repetition_penalty", self.repetition_penalty, 0.0)
        if self.repetition_penalty == 0:
            raise RequestError("repetition_penalty must be above 0 (1 changes nothing), got 0")
        if self.seed is not None:
            _whole("seed", self.seed, -(2**63), 2**64 - 1)
        if self.logprobs is not None:
            _whole("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        for name in ("valid_utf8", "ignore_eos"):
            if not isinstance(getattr(self, name), bool):
                raise RequestError(f"{name} must be true or false, got {getattr(self, name)!r}")
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


def _whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} must be a whole number, got {value!r}")
    if value < low or (high is not None and value > high):
        raise RequestError(f"{name} must be {_range(low, high)}, got {value}")


def _number(name: str, value: Any, low: float, high: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < low or (high is not None and value > high):
        raise RequestError(f"{name} must be {_range(low, high)}, got {value}")


def _range(low: float, high: float | None) -> str:
    return f"{_plain(low)} or more" if high is None else f"from {_plain(low)} to {_plain(high)}"


def _plain(number: float) -> str:
    """A whole number with all its digits."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"
