"""Whether a module is what its class says: then an op may stand for its call."""

from torch import nn
from torch.nn.modules.module import _has_any_global_hook

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_as_written(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Of this very class (a wrapped or parametrized module is of another), without a forward of its own, and without
    hooks, its own and those of all modules: a call does what `kind.forward` does, and nobody watches."""
    return (
        type(module) is kind
        and "forward" not in module.__dict__
        and not any(getattr(module, hooks) for hooks in HOOKS)
        and not _has_any_global_hook()
    )
