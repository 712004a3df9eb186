"""Bodies of requests: a body that gives sampling parameters, or an error with a status, a field and one line."""

from refusals import assert_one_line

from hnet_lm.serving.bodies import parse
from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.protocol import Body, ChunksBody, CompletionBody, EmbeddingsBody

SEEDS = (
    b'{"model": null, "prompt": "once", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "stop": ["\\n"], "n": 2}',
    b'{"prompt": [[104, 105], "x"], "logprobs": 3, "echo": true, "stream_options": {"include_usage": true}}',
    b'{"prompt": [1, 2.0, 255], "seed": 18446744073709551615, "logit_bias": {}, "suffix": "", "best_of": 1}',
    b'{"input": ["a", "\\u4e2d"], "encoding_format": "base64", "pooling": "last", "dimensions": 32}',
)
LIMITS = RequestLimits()


def check(data: bytes) -> None:
    kinds: tuple[type[Body], ...] = (CompletionBody, ChunksBody, EmbeddingsBody)
    for kind in kinds:
        try:
            body = parse(data, kind)
            if isinstance(body, CompletionBody):
                body.check(LIMITS)
                for choice in range(min(body.num_choices, 3)):
                    assert body.sampling_params(choice, LIMITS).max_new_bytes == body.num_new_bytes(LIMITS)
        except ApiError as error:
            assert 400 <= error.status < 500  # noqa: PT017  a refusal is as right as a body
            assert_one_line(error.message)
