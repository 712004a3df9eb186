"""The checker behind the import hook: beartype, for every function that says a shape.

Others are left alone: what a user may pass wrongly (a string where a number belongs) has to reach the package's own
error and not beartype's.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    return beartype(function) if any(map(_says_a_shape, function.__annotations__.values())) else function


def _says_a_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_says_a_shape, get_args(hint)))
