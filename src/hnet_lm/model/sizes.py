"""What a model takes: parameters, and bytes of state a sequence, by stage and part.

A pad vector belongs to the stage it leads into. Of the state, Mamba-2, routing, smoothing and upsampler take the same
however long the sequence; attention keeps keys and values of every position that later ones may still see.
"""

from collections import Counter
from collections.abc import Sequence

from hnet_lm.layout import parse_layout
from hnet_lm.model.flops import stage_lengths, visible_positions
from hnet_lm.model.hnet import HNetState
from hnet_lm.model.lm import HNetLM, HNetLMState


def parameters_by_part(model: HNetLM) -> dict[tuple[int, str], int]:
    """The number of parameters of every (stage, part)."""
    stages, counts = model.parameter_stages(), Counter()
    for name, parameter in model.named_parameters():
        counts[stages[name], _part(name)] += parameter.numel()
    return dict(counts)


def state_bytes_by_part(
    model: HNetLM, bytes_per_chunk: Sequence[float], sequence_length: int
) -> dict[tuple[int, str], int]:
    """Bytes of the state of one sequence of this many bytes, for every (stage, part) that carries something."""
    lengths = stage_lengths(model.config, bytes_per_chunk, sequence_length)
    sizes: dict[tuple[int, str], int] = {}
    state, stage = model.new_state(1), 0
    if isinstance(state, HNetLMState):
        sizes[0, "ngrams"], state = state.ngrams.num_bytes, state.network
    while isinstance(state, HNetState):
        for part in ("encoder", "routing", "smoothing", "upsampler", "decoder"):
            sizes[stage, part] = getattr(state, part).num_bytes
        state, stage = state.main_network, stage + 1
    sizes[stage, "main_network"] = state.num_bytes
    item = model.embedding.weight.element_size()
    for s, (config, length) in enumerate(zip(model.config.stages, lengths, strict=True)):
        for part, layout in config.layouts.items():
            for i, block in enumerate(parse_layout(layout)):
                if block.mixer == "attention":
                    kept = round(visible_positions(config.of_block(i), length))
                    sizes[s, part] += 2 * kept * config.attention.kv_heads * config.head_dim * item
    return sizes


def _part(name: str) -> str:
    part = name.removeprefix("network.").replace("main_network.", "").partition(".")[0]
    return {"blocks": "main_network", "norm": "main_network", "widen": "pad_vector", "lm_head": "head"}.get(part, part)
