"""Which parameters are trained: all but those named by stage or by pattern."""

import fnmatch
from collections.abc import Sequence

from hnet_lm.errors import ConfigError
from hnet_lm.model import HNetLM


def freeze(model: HNetLM, patterns: Sequence[str]) -> int:
    """Stop training what the patterns name; returns how many parameters that are.

    `stage:1` is all of stage 1; anything else is a glob over parameter names, as `network.encoder.*`.
    """
    stages = model.parameter_stages()
    frozen: set[str] = set()
    for pattern in patterns:
        if pattern.startswith("stage:"):
            named = {name for name, stage in stages.items() if f"stage:{stage}" == pattern}
        else:
            named = set(fnmatch.filter(stages, pattern))
        if not named:
            parts = sorted({".".join(name.split(".")[:2]) for name in stages})
            raise ConfigError(f"model.freeze: {pattern!r} names no parameter; they begin with {', '.join(parts)}")
        frozen |= named
    if len(frozen) == len(stages):
        raise ConfigError("model.freeze: everything is frozen, so there is nothing to train")
    num_frozen = 0
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
            num_frozen += parameter.numel()
    return num_frozen
