"""Shapes are checked while tests run: jaxtyping and beartype, on every function and dataclass that says a shape.

jaxtyping's import hook would put its wrapper around every function, and check again at every call what it has seen a
thousand times: half of the time of most tests. So functions that say no shape are left alone; what a user may pass
wrongly there (a string where a number belongs) has to reach the package's own error and not beartype's. And a call is
looked at only if none before it had arguments and a result of the same classes, types and shapes: nothing else matters.
"""

import ast
import functools
import threading
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
from beartype import beartype
from jaxtyping import AbstractArray, _import_hook
from torch import Tensor

LARGEST = 8
"""A longer list, tuple or dictionary is looked at every time."""
_DECORATOR = "__import__('shape_checks').checked"


def install(package: str) -> None:
    """Check the shapes of this package's functions and dataclasses, as far as it is not imported yet."""
    _import_hook.JaxtypingTransformer = _OnlyWhatSaysAShape  # there is no public way to leave functions out
    jaxtyping.install_import_hook(package, "beartype.beartype")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    replayed = threading.local()

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return replayed.result if hasattr(replayed, "result") else function(*args, **kwargs)

    check = jaxtyping.jaxtyped(run, typechecker=beartype)
    seen: set[Any] = set()

    @functools.wraps(function)
    def checks_what_is_new(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        given = _signature((args, kwargs))
        if given is None or given not in seen:
            result = check(*args, **kwargs)
            seen.update({given, (given, _signature(result))} - {None})
            return result
        result = function(*args, **kwargs)
        whole = (given, _signature(result))
        if whole[1] is None or whole not in seen:
            replayed.result = result
            try:
                check(*args, **kwargs)
            finally:
                del replayed.result
            seen.add(whole)
        return result

    return checks_what_is_new


def _signature(value: Any) -> Any:
    """What a check of the value depends on, or None if that is too much to say."""
    if isinstance(value, Tensor | np.ndarray):
        return type(value), value.dtype, tuple(value.shape)
    if isinstance(value, tuple | list | dict):
        if len(value) > LARGEST:
            return None
        parts = [_signature(item) for item in (value.values() if isinstance(value, dict) else value)]
        return None if None in parts else (type(value), *(value if isinstance(value, dict) else ()), *parts)
    return (type(value), value) if value is None or isinstance(value, str | bool) else type(value)


class _OnlyWhatSaysAShape(_import_hook.JaxtypingTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
        if _say_a_shape([node.returns, *(argument.annotation for argument in arguments if argument is not None)]):
            decorator = ast.parse(_DECORATOR, mode="eval").body
            node.decorator_list.append(ast.copy_location(decorator, node))
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        if _say_a_shape([child.annotation for child in node.body if isinstance(child, ast.AnnAssign)]):
            return super().visit_ClassDef(node)
        self.generic_visit(node)
        return node


def _say_a_shape(hints: list[ast.expr | None]) -> bool:
    """Whether `Float[...]` or its like stands in one of them."""
    return any(
        isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name) and _is_shape_type(part.value.id)
        for hint in hints
        if hint is not None
        for part in ast.walk(hint)
    )


def _is_shape_type(name: str) -> bool:
    kind = getattr(jaxtyping, name, None)
    return isinstance(kind, type) and issubclass(kind, jaxtyping.AbstractDtype)


def says_a_shape(hint: Any) -> bool:
    """The same of a hint that was evaluated."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(says_a_shape, getattr(hint, "__args__", ())))
