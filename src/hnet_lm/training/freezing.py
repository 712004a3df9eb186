"""Which parameters are trained: all but those named by stage or by pattern, or those of an adapter alone."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hnet_lm.checkpoint import HUB_PREFIX
from hnet_lm.errors import ConfigError
from hnet_lm.extras import import_leaf
from hnet_lm.model import HNetLM
from hnet_lm.trained_models import trained_directory
from hnet_lm.training.sections import LoraConfig

if TYPE_CHECKING:
    from hnet_lm.lora import Adapter


def adapt(model: HNetLM, source: str, config: LoraConfig) -> "Adapter":
    """Put an adapter into the model, which was loaded from `source`; all its own weights are frozen.

    Raises ConfigError, also where peft is not installed.
    """
    lora = import_leaf("hnet_lm.lora", "lora", "[lora]", ConfigError)
    is_folder = not source.startswith(HUB_PREFIX) and trained_directory(source) is None
    base = str(Path(source).resolve()) if is_folder else source  # the adapter is loaded from anywhere
    return lora.Adapter.fresh(model, base, config.rank, config.alpha, config.targets)


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
