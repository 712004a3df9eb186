"""From a transformers config.json to the configuration of an isotropic model of tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from hnet_lm.checks import require_number, require_whole
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.pretrained.families import DEFAULTS, FAMILIES, ONLY, Family

ROPE_KINDS_WITHOUT_SCALING = ("default", None)
FULL, SLIDING = "full_attention", "sliding_attention"


def architecture(data: Mapping[str, Any]) -> HNetConfig:
    """Raises ConfigError for a model that cannot be said, naming the key."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"must be an object, got {type(data).__name__}")
    name = data.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        raise ConfigError(f"model_type: {name!r} cannot be imported; there are {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    for key, values in ONLY.items():
        if key in data and data[key] not in values:
            raise ConfigError(f"{key}: only {values[0]!r} can be imported, this model has {data[key]!r}")
    values = {**DEFAULTS, **family.defaults, **data}
    num_layers, num_heads, d_model = (
        _count(values, key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    if values.get("head_dim") is None and d_model % num_heads:
        raise ConfigError(f"num_attention_heads: {num_heads} heads do not divide hidden_size {d_model}")
    head_dim = _count(values, "head_dim") if values.get("head_dim") is not None else d_model // num_heads
    num_kv_heads = values.get("num_key_value_heads")
    window, global_blocks = _windows(family, values, num_layers)
    base, scaling = _rotary(family, values)
    rotary_dim = head_dim - head_dim % 2
    attention = {
        "num_heads": num_heads,
        "rotary_emb_dim": rotary_dim,
        "window_size": window,
        "num_kv_heads": num_heads if num_kv_heads is None else _count(values, "num_key_value_heads"),
        "head_dim": None if head_dim * num_heads == d_model else head_dim,
        "rotary_base": base,
        "rotary_scaling": scaling,
        "qkv_bias": family.qkv_bias,
        "qk_norm": family.qk_norm,
        "global_blocks": global_blocks,
        "unrotated_blocks": _unrotated(values, num_layers) if family.skips_rotary else [],
    }
    return HNetConfig.from_dict(
        {
            "arch_layout": [f"T{num_layers}"],
            "d_model": [d_model],
            "d_intermediate": [_count(values, "intermediate_size")],
            "vocab_size": _count(values, "vocab_size"),
            "attn_cfg": {key: [value] for key, value in attention.items()},
            "tie_embeddings": values["tie_word_embeddings"],
            "norm_eps": [values["rms_norm_eps"]],
            "norms_after": [family.norms_after],
            "reads_tokens": True,
            "special_ids": _special_ids(values),
        }
    )


def _count(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if value is None:
        raise ConfigError(f"{key!r} is missing")
    require_whole(key, value, 1)
    return value


def _windows(family: Family, values: Mapping[str, Any], num_layers: int) -> tuple[int, list[int]]:
    """The window, as `window_size` counts it, and the blocks that have none."""
    if family.windows == "none":
        if values["use_sliding_window"]:
            raise ConfigError("use_sliding_window: only False can be imported of this family")
        return -1, []
    if family.windows == "later" and not values["use_sliding_window"]:
        return -1, []
    if values["sliding_window"] is None:
        return -1, []
    kinds = values.get("layer_types")
    if kinds is None:
        kinds = [SLIDING if _is_windowed(family, values, i) else FULL for i in range(num_layers)]
    if not isinstance(kinds, list) or len(kinds) != num_layers or not set(kinds) <= {FULL, SLIDING}:
        raise ConfigError(f"layer_types: must be {FULL} or {SLIDING} for each of {num_layers} layers, got {kinds!r}")
    if SLIDING not in kinds:
        return -1, []
    return _count(values, "sliding_window") - 1, [i for i, kind in enumerate(kinds) if kind == FULL]


def _is_windowed(family: Family, values: Mapping[str, Any], index: int) -> bool:
    if family.windows == "three of four":
        return (index + 1) % 4 != 0
    return family.windows == "all" or index >= values["max_window_layers"]


def _rotary(family: Family, values: Mapping[str, Any]) -> tuple[float, dict[str, Any] | None]:
    """The base, and the scaling as `rotary_scaling` has it."""
    found = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"rope_parameters: must be an object, got {found!r}")
    if FULL in found or SLIDING in found:
        windowed, found = _rotary_object(found.get(SLIDING)), _rotary_object(found.get(FULL))
        if windowed.get("rope_type") not in ROPE_KINDS_WITHOUT_SCALING:
            raise ConfigError(f"rope_parameters: of blocks with a window only the default, got {windowed!r}")
        bases = {each.get("rope_theta", values["rope_theta"]) for each in (windowed, found)}
        if len(bases) > 1:
            raise ConfigError(f"rope_parameters: one rope_theta of all blocks, got {sorted(bases)}")
    elif family.windows != "three of four" and values["use_sliding_window"] and _is_scaled(found):
        raise ConfigError("rope_parameters: a scaling of blocks with and without a window cannot be imported")
    base = found.get("rope_theta", values["rope_theta"])
    require_number("rope_theta", base)
    if found.get("partial_rotary_factor") not in ONLY["partial_rotary_factor"]:
        raise ConfigError(f"partial_rotary_factor: only 1 can be imported, got {found['partial_rotary_factor']!r}")
    if not _is_scaled(found):
        return float(base), None
    without = ("rope_theta", "type", "rope_type", "partial_rotary_factor")
    scaling = {key: value for key, value in found.items() if key not in without and value is not None}
    return float(base), {"rope_type": _kind_of(found), **scaling}


def _rotary_object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"rope_parameters: must have an object for {FULL} and for {SLIDING}, got {value!r}")
    return value


def _kind_of(found: Mapping[str, Any]) -> Any:
    return found.get("rope_type", found.get("type"))


def _is_scaled(found: Mapping[str, Any]) -> bool:
    return _kind_of(found) not in ROPE_KINDS_WITHOUT_SCALING


def _unrotated(values: Mapping[str, Any], num_layers: int) -> list[int]:
    """Blocks without rotary positions: transformers' list has a 0 for each."""
    rotated = values.get("no_rope_layers")
    if rotated is None:
        interval = _count(values, "no_rope_layer_interval")
        return [i for i in range(num_layers) if (i + 1) % interval == 0]
    if not isinstance(rotated, list) or len(rotated) != num_layers:
        raise ConfigError(f"no_rope_layers: must be a number for each of {num_layers} layers, got {rotated!r}")
    return [i for i, is_rotated in enumerate(rotated) if not is_rotated]


def _special_ids(values: Mapping[str, Any]) -> Sequence[int]:
    """BOS and EOS: of several ends the first; where nothing begins a text, the end of another does."""
    end = values.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if not isinstance(end, int):
        raise ConfigError(f"eos_token_id: must be the id that ends a text, got {end!r}")
    begin = values.get("bos_token_id")
    return [end if begin is None else begin, end]
