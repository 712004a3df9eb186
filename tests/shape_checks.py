"""The checker behind the import hook: beartype, for every function that says a shape.

Others are left alone: what a user may pass wrongly (a string where a number belongs) has to reach the package's own
error and not beartype's. jaxtyping's hook would put its wrapper around them all the same, and most calls are theirs:
it cost a third of the time of all tests.
"""

import ast
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, _import_hook


def install(package: str) -> None:
    """Check the shapes of this package's functions and dataclasses, as far as it is not imported yet."""
    _import_hook.JaxtypingTransformer = _OnlyWhatSaysAShape  # there is no public way to leave functions out
    jaxtyping.install_import_hook(package, "shape_checks.checked")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    return beartype(function)


class _OnlyWhatSaysAShape(_import_hook.JaxtypingTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
        hints = [node.returns, *(argument.annotation for argument in arguments if argument is not None)]
        if _say_a_shape(hints):
            return super().visit_FunctionDef(node)
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
        isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name) and is_shape_type(part.value.id)
        for hint in hints
        if hint is not None
        for part in ast.walk(hint)
    )


def is_shape_type(name: str) -> bool:
    kind = getattr(jaxtyping, name, None)
    return isinstance(kind, type) and issubclass(kind, jaxtyping.AbstractDtype)


def says_a_shape(hint: Any) -> bool:
    """The same of a hint that was evaluated."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(says_a_shape, getattr(hint, "__args__", ())))
