"""The bodies of requests. Fields that OpenAI's interface does not have are marked "ours"; counts are of bytes.

Unknown fields are errors. Features of OpenAI's interface that this server lacks are refused only when they are used: an
empty `logit_bias` is accepted. `SamplingParams` checks the ranges of sampling parameters, for all callers; the ranges
here are for the OpenAPI description.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from hnet_lm.generation import RequestError, SamplingParams
from hnet_lm.generation.params import MAX_LOGPROBS, as_bytes
from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits

DEFAULT_MAX_TOKENS = 256
MAX_STOPS = 16
_SEEDS = 2**64


def as_texts(value: Any) -> list[bytes]:
    """A string, a list of strings, the bytes of one text as numbers, or a list of those. Raises ValueError."""
    if isinstance(value, str):
        return [as_bytes(value, "the text")]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a string, a list of strings, or lists of bytes as numbers from 0 to 255")
    text = _as_byte_list(value)
    return [_as_text(item, index) for index, item in enumerate(value)] if text is None else [text]


def _as_text(value: Any, index: int) -> bytes:
    if isinstance(value, str):
        return as_bytes(value, f"text {index}")
    text = _as_byte_list(value)
    if text is None:
        raise ValueError(f"text {index} is neither a string nor a list of bytes as numbers from 0 to 255")
    return text


def _as_byte_list(value: Any) -> bytes | None:
    """The bytes that a list of numbers stands for; None for anything else."""
    if not isinstance(value, list):
        return None
    numbers = [as_integer(item) for item in value]
    return bytes(numbers) if all(type(item) is int and 0 <= item <= 255 for item in numbers) else None


def as_stops(value: Any) -> tuple[str, ...]:
    """One string, or a list of them. Raises ValueError."""
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(stop, str) for stop in stops):
        raise ValueError(f"must be a string or a list of at most {MAX_STOPS} strings")
    if "" in stops:
        raise ValueError("a stop string must not be empty: it would stop before the first byte")
    return tuple(stops)


def as_integer(value: Any) -> Any:
    """A number without a fraction is an integer, however it is written: 16.0 is 16 in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def without_nulls(value: Any) -> Any:
    return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value


def nothing(value: Any) -> Any:
    """Raises ValueError for anything but an empty value."""
    if value:
        raise ValueError("is not supported by this server; leave it out")
    return value


def in_schema(**keywords: float) -> Any:
    """Keywords for the OpenAPI description only."""
    return Field(json_schema_extra={**keywords})


BYTE_LIST = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}
TEXTS_SCHEMA = {
    "description": "A text, several, or the bytes of texts as numbers.",
    "anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, BYTE_LIST]}},
        {**BYTE_LIST, "minItems": 1},
    ],
}
STOP_SCHEMA = {
    "description": "The text ends before the first of these.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "maxItems": MAX_STOPS, "items": {"type": "string", "minLength": 1}},
    ],
}

Integer = Annotated[int, BeforeValidator(as_integer)]
Texts = Annotated[list[bytes], BeforeValidator(as_texts), WithJsonSchema(TEXTS_SCHEMA)]
Stops = Annotated[tuple[str, ...], BeforeValidator(as_stops), WithJsonSchema(STOP_SCHEMA)]
Share = Annotated[float, in_schema(minimum=0, maximum=1)]
Zero = Annotated[float, Field(ge=0, le=0)]

_DESCRIBED = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Body(BaseModel):
    model_config = _DESCRIBED

    model: str | None = None
    """The name of a model; the first that is served if it is not given."""
    user: str | None = None
    """Accepted and ignored."""


class StreamOptions(BaseModel):
    model_config = _DESCRIBED

    include_usage: bool = False
    """Send the usage in an event at the end."""
    include_obfuscation: bool = False
    """Accepted and ignored."""


class CompletionBody(Body):
    prompt: Texts = [b""]
    n: Annotated[int, Field(ge=1), BeforeValidator(as_integer)] | None = None
    """Completions per prompt; the i-th uses seed + i."""
    best_of: Integer | None = None
    """1, or equal to `n`: completions are not ranked."""
    max_tokens: Annotated[int, Field(ge=0), BeforeValidator(as_integer)] | None = None
    """New bytes."""
    temperature: Annotated[float, in_schema(minimum=0)] | None = None
    top_p: Share | None = None
    top_k: Annotated[Integer, in_schema(minimum=0)] | None = None
    """Ours: keep the k likeliest bytes; 0 keeps all."""
    min_p: Share | None = None
    """Ours: drop bytes less likely than this share of the likeliest one."""
    repetition_penalty: Annotated[float, in_schema(exclusiveMinimum=0)] | None = None
    """Ours: 1 changes nothing."""
    valid_utf8: bool | None = None
    """Ours: bytes that cannot continue a valid character get no probability."""
    ignore_eos: bool | None = None
    """Ours: the end of the text gets no probability."""
    seed: Annotated[Integer, in_schema(minimum=-(2**63), maximum=2**64 - 1)] | None = None
    stop: Stops | None = None
    logprobs: Annotated[Integer, in_schema(minimum=0, maximum=MAX_LOGPROBS)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: Annotated[StreamOptions, BeforeValidator(without_nulls)] | None = None
    frequency_penalty: Zero | None = None
    """Only 0; `repetition_penalty` is what there is."""
    presence_penalty: Zero | None = None
    """Only 0; `repetition_penalty` is what there is."""
    logit_bias: Annotated[dict[str, Any], AfterValidator(nothing), in_schema(maxProperties=0)] | None = None
    """Only an empty one."""
    suffix: Annotated[str, AfterValidator(nothing), in_schema(maxLength=0)] | None = None
    """Only an empty one."""
    routing: bool | None = None
    """Ours: report each byte with its boundary probabilities."""

    @property
    def num_choices(self) -> int:
        return len(self.prompt) * (self.n or 1)

    @property
    def wants_usage_event(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def check(self, limits: RequestLimits) -> None:
        """Raises ApiError for what `SamplingParams` does not check."""
        check_texts(self.prompt, "prompt", limits)
        if self.num_choices > limits.max_texts:
            raise _too_much("n", f"{self.num_choices} completions in one request, {limits.max_texts} are allowed")
        if self.best_of not in (None, 1, self.n or 1):
            raise ApiError(400, "best_of: must equal n", param="best_of", code="invalid_value")
        if (self.max_tokens or 0) > limits.max_new_bytes:
            asked = f"{self.max_tokens:,} bytes asked for, {limits.max_new_bytes:,} are allowed"
            raise _too_much("max_tokens", asked)
        total = (self.n or 1) * sum(map(len, self.prompt)) + self.num_choices * self.num_new_bytes(limits)
        if total > limits.max_total_bytes:
            message = f"{total:,} bytes of prompts and completions, {limits.max_total_bytes:,} are allowed in a request"
            raise _too_much("prompt", message)

    def num_new_bytes(self, limits: RequestLimits) -> int:
        """The most new bytes of each completion."""
        return min(DEFAULT_MAX_TOKENS, limits.max_new_bytes) if self.max_tokens is None else self.max_tokens

    def sampling_params(self, choice: int, limits: RequestLimits) -> SamplingParams:
        """Those of the `choice`-th completion of a prompt. Raises ApiError for a value out of range."""
        names = (
            "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
            "valid_utf8", "ignore_eos", "seed", "stop", "logprobs",
        )  # fmt: skip
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        # Generators take seeds modulo 2^64.
        if choice and self.seed is not None:
            given["seed"] = (self.seed + choice) % _SEEDS
        try:
            return SamplingParams.from_options(max_new_bytes=self.num_new_bytes(limits), **given)
        except RequestError as error:
            named = [name for name in names if str(error).startswith(name)]
            raise ApiError(400, str(error), param=named[0] if named else None, code="invalid_value") from None


class ChunksBody(Body):
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"
    """base64: probabilities as float32 and starts as uint32, little-endian, without what follows from them."""


class EmbeddingsBody(Body):
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"
    pooling: Literal["mean", "last"] = "mean"
    """Ours: over the innermost chunks."""
    dimensions: Integer | None = None
    """Only the width of the model's innermost stage."""


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
