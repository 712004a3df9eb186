import math

import pytest

from hnet_lm.errors import UserError
from hnet_lm.generation.params import RequestError, SamplingParams, as_bytes


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"temperature": math.nan}, "temperature: must be a number, 0 or more, got nan"),
        ({"temperature": math.inf}, "temperature"),
        ({"temperature": -0.1}, "temperature: must be a number, 0 or more, got -0.1"),
        ({"temperature": "hot"}, "temperature: must be a number, 0 or more, got 'hot'"),
        ({"temperature": True}, "temperature: must be a number"),
        ({"top_k": -1}, "top_k: must be a whole number, 0 or more, got -1"),
        ({"top_k": 2.5}, "top_k: must be a whole number"),
        ({"top_p": -0.5}, "top_p: must be a number from 0 to 1, got -0.5"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"min_p": 2}, "min_p"),
        ({"min_p": math.nan}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty: must be a number above 0"),
        ({"repetition_penalty": -1.0}, "repetition_penalty"),
        ({"max_new_bytes": -1}, "max_new_bytes: must be a whole number, 0 or more, got -1"),
        ({"max_new_bytes": 1.0}, "max_new_bytes"),
        (
            {"seed": 2**64},
            "seed: must be a whole number from -9223372036854775808 to 18446744073709551615, got 18446744073709551616",
        ),
        ({"seed": -(2**63) - 1}, "got -9223372036854775809"),
        ({"seed": "x"}, "seed"),
        ({"logprobs": 21}, "logprobs: must be a whole number from 0 to 20, got 21"),
        ({"logprobs": True}, "logprobs"),
        ({"valid_utf8": 1}, "valid_utf8: must be true or false"),
        ({"stop": ""}, "stop string must not be empty"),
        ({"stop": ["a", 3]}, r"stop\[1\] must be a string or bytes, got int"),
        ({"stop": "\ud800"}, r"stop\[0\]: character 0 is the lone surrogate U\+D800"),
    ],
)
def test_one_clear_line_for_each_mistake(options: dict, names: str):
    with pytest.raises(RequestError, match=names) as caught:
        SamplingParams(**options)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)


def test_an_unknown_parameter_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        SamplingParams.from_options(temprature=1)


def test_stops_become_bytes():
    assert SamplingParams(stop=("a", b"\xff")).stop_bytes == (b"a", b"\xff")
    assert SamplingParams.from_options(stop="é").stop_bytes == (b"\xc3\xa9",)
    assert SamplingParams.from_options(stop=["é"]).stop_bytes == (b"\xc3\xa9",)


def test_bounds_are_inside():
    params = SamplingParams(temperature=0, top_p=0, min_p=1, max_new_bytes=0, seed=-(2**63), logprobs=0)
    assert (params.temperature, params.top_p, params.min_p, params.logprobs) == (0, 0, 1, 0)
    highest = SamplingParams(top_p=1, seed=2**64 - 1, logprobs=20)
    assert (highest.top_p, highest.seed, highest.logprobs) == (1, 2**64 - 1, 20)


def test_as_bytes_keeps_bytes_and_null():
    assert as_bytes(b"\xff", "prompt") == b"\xff"
    assert as_bytes("a\0😀", "prompt") == b"a\0\xf0\x9f\x98\x80"
