"""How many numbers an answer will report, computed from the request."""

from collections.abc import Sequence

from hnet_lm.generation import Request
from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits


def reported_numbers(requests: Sequence[Request], num_stages: int) -> int:
    """At most: log-probabilities (of each byte, and of the likeliest bytes there) and boundary probabilities."""
    return sum(_reported_numbers(request, num_stages) for request in requests)


def _reported_numbers(request: Request, num_stages: int) -> int:
    params = request.params
    found = 0
    if params.logprobs is not None:
        # one more than bytes: the end of the text has an entry too
        num_entries = (len(request.prompt) if request.prompt_logprobs else 0) + params.max_new_bytes + 1
        found += num_entries * (1 + params.logprobs)
    if request.boundaries:
        found += (len(request.prompt) + params.max_new_bytes) * (1 + num_stages)
    return found


def check_work(requests: Sequence[Request], num_stages: int, limits: RequestLimits) -> None:
    """Raises ApiError for an answer that would report more than one may."""
    found = reported_numbers(requests, num_stages)
    if found > limits.max_reported_numbers:
        param = "routing" if requests[0].params.logprobs is None else "logprobs"
        message = (
            f"{param}: the answer would report {found:,} numbers (every byte of every prompt and completion, times the "
            f"numbers per byte), {limits.max_reported_numbers:,} are allowed; ask for fewer texts, or less of each"
        )
        raise ApiError(400, message, param=param, code="answer_too_large")
