"""What a user gave is checked in one place, and said in one form."""

import math
from collections.abc import Callable

import pytest

from hnet_lm.checks import require_bool, require_choice, require_number, require_size, require_whole
from hnet_lm.errors import ConfigError, UserError


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: require_whole("n", 1.0), "a whole number, got 1.0"),
        (lambda: require_whole("n", True, 0), "a whole number, 0 or more, got True"),
        (lambda: require_whole("n", -1, 0), "a whole number, 0 or more, got -1"),
        (lambda: require_whole("n", 3, most=2), "a whole number, 2 or less, got 3"),
        (lambda: require_whole("n", 2**64, 0, 2**64 - 1), f"a whole number from 0 to {2**64 - 1}, got {2**64}"),
        (lambda: require_size("n", 0, 1), "a whole number from 1 to 1000000, got 0"),
        (lambda: require_number("n", "1"), "a number, got '1'"),
        (lambda: require_number("n", False), "a number, got False"),
        (lambda: require_number("n", math.nan), "a number, got nan"),
        (lambda: require_number("n", math.inf, 0.5), "a number, 0.5 or more, got inf"),
        (lambda: require_number("n", 0.0, above=0), "a number above 0, got 0.0"),
        (lambda: require_number("n", 1, 0, below=1), "a number, 0 or more and below 1, got 1"),
        (lambda: require_number("n", 1.5, above=0, most=1), "a number above 0 and 1 or less, got 1.5"),
        (lambda: require_number("n", -2, -1, 1), "a number from -1 to 1, got -2"),
        (lambda: require_bool("n", 1), "true or false, got 1"),
        (lambda: require_choice("n", "c", ("a", "b")), "one of 'a', 'b', got 'c'"),
    ],
)
def test_a_wrong_value_is_one_line(check: Callable[[], None], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check()
    assert str(refused.value) == f"n: must be {words}"


def test_right_values_pass() -> None:
    require_whole("n", 5, 5, 5)
    require_number("n", 0, 0, below=1)
    require_number("n", 1.0, above=0, most=1)
    require_bool("n", False)
    require_choice("n", "a", ("a", "b"))


def test_the_caller_chooses_the_error() -> None:
    with pytest.raises(UserError) as refused:
        require_whole("n", 0, 1, error=UserError)
    assert type(refused.value) is UserError
