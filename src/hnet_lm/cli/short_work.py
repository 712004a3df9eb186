"""Short texts are read by torch's operations: compiled loops would take longer to compile, or to load, than to run."""

from contextlib import AbstractContextManager, nullcontext

from hnet_lm.model import HNetLM
from hnet_lm.ops.dispatch import are_chosen, use_backend

FEW_BYTES = 512


def backends_for(model: HNetLM, num_bytes: int) -> AbstractContextManager[None]:
    """The choice of backends while so many bytes are read or written; on a GPU, and behind a user's own, none."""
    is_short = model.device.type == "cpu" and num_bytes <= FEW_BYTES
    return use_backend("eager") if is_short and not are_chosen() else nullcontext()
