"""The bodies of requests. Fields that OpenAI's interface does not have are marked "ours"; counts are of bytes.

Unknown fields are errors. Ranges of sampling parameters are checked by `SamplingParams`, in one place for all callers.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hnet_lm.generation import SamplingParams
from hnet_lm.generation.params import as_bytes
from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits

DEFAULT_MAX_TOKENS = 256


def as_texts(value: Any) -> list[bytes]:
    """A string, a list of strings, the bytes of one text as numbers, or a list of those. Raises ValueError."""
    if isinstance(value, str) or _is_byte_list(value):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a string, a list of strings, or lists of bytes as numbers from 0 to 255")
    return [_as_text(text, index) for index, text in enumerate(value)]


def _as_text(text: Any, index: int) -> bytes:
    if isinstance(text, str):
        return as_bytes(text, f"text {index}")
    if text == [] or _is_byte_list(text):
        return bytes(text)
    raise ValueError(f"text {index} is neither a string nor a list of bytes as numbers from 0 to 255")


def _is_byte_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int and 0 <= item <= 255 for item in value)


Texts = Annotated[list[bytes], BeforeValidator(as_texts)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = None
    """None: the first model that is served."""
    user: str | None = None
    """Taken and not used."""


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    include_usage: bool = False


class CompletionBody(Body):
    prompt: Texts = [b""]
    n: Annotated[int, Field(ge=1)] | None = None
    """Completions a prompt; the i-th uses seed + i."""
    best_of: int | None = None
    """Only as many as `n`: there is no beam."""
    max_tokens: int | None = None
    """New bytes."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """Ours, as the next four: see `SamplingParams`."""
    min_p: float | None = None
    repetition_penalty: float | None = None
    valid_utf8: bool | None = None
    ignore_eos: bool | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    logprobs: int | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    """Only 0; `repetition_penalty` is what there is."""
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    routing: bool | None = None
    """Ours: report each byte with its boundary probabilities."""

    @property
    def num_choices(self) -> int:
        return len(self.prompt) * (self.n or 1)

    @property
    def wants_usage_event(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def check(self, limits: RequestLimits) -> None:
        """Raises ApiError for what no `SamplingParams` can see."""
        check_texts(self.prompt, "prompt", limits)
        if self.num_choices > limits.max_texts:
            raise _too_much("n", f"{self.num_choices} completions in one request, {limits.max_texts} are allowed")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ApiError(400, "best_of: must equal n", param="best_of", code="invalid_value")
        if (self.max_tokens or 0) > limits.max_new_bytes:
            asked = f"{self.max_tokens:,} bytes asked for, {limits.max_new_bytes:,} are allowed"
            raise _too_much("max_tokens", asked)

    def sampling_params(self, choice: int, limits: RequestLimits) -> SamplingParams:
        """Of the `choice`-th completion of a prompt. Raises RequestError for a value out of range."""
        names = (
            "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
            "valid_utf8", "ignore_eos", "stop", "logprobs",
        )  # fmt: skip
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        max_new_bytes = min(DEFAULT_MAX_TOKENS, limits.max_new_bytes) if self.max_tokens is None else self.max_tokens
        seed = None if self.seed is None else self.seed + choice
        return SamplingParams.from_options(max_new_bytes=max_new_bytes, seed=seed, **given)


class ChunksBody(Body):
    input: Texts


class EmbeddingsBody(Body):
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"
    pooling: Literal["mean", "last"] = "mean"
    """Ours: over the innermost chunks."""


def check_texts(texts: list[bytes], field: str, limits: RequestLimits) -> None:
    """Raises ApiError for too many texts, or one too long."""
    if len(texts) > limits.max_texts:
        raise _too_much(field, f"{len(texts)} texts in one request, {limits.max_texts} are allowed")
    longest = max(map(len, texts))
    if longest > limits.max_prompt_bytes:
        message = f"{longest:,} bytes, {limits.max_prompt_bytes:,} are allowed"
        raise _too_much(field, message, code="context_length_exceeded")


def _too_much(param: str, message: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, f"{param}: {message}", param=param, code=code)
