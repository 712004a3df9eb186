"""The families of Transformers that can be imported: one table of what each does differently.

| model_type | norms  | norm of q and k | qkv bias | window                           | rotary            |
|------------|--------|-----------------|----------|----------------------------------|-------------------|
| llama      | before | none            | no       | none                             | all blocks        |
| mistral    | before | none            | no       | all blocks, where there is one   | all blocks        |
| qwen2      | before | none            | yes      | later blocks, where there is one | all blocks        |
| qwen3      | before | of each head    | no       | later blocks, where there is one | all blocks        |
| olmo2      | after  | of all heads    | no       | none                             | all blocks        |
| olmo3      | after  | of all heads    | no       | three blocks of four             | scaling in others |
| smollm3    | before | none            | no       | none                             | not in the fourth |

SmolLM and SmolLM2 are of type llama. Defaults are those of transformers, for keys that a config.json leaves out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hnet_lm.attention_config import QKNorm


@dataclass(frozen=True)
class Family:
    """What a model_type means for the blocks."""

    windows: Literal["none", "all", "later", "three of four"] = "none"
    qkv_bias: bool = False
    qk_norm: QKNorm | None = None
    norms_after: bool = False
    skips_rotary: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


FAMILIES: Mapping[str, Family] = {
    "llama": Family(),
    "mistral": Family("all", defaults={"num_key_value_heads": 8, "sliding_window": 4096}),
    "qwen2": Family("later", qkv_bias=True),
    "qwen3": Family("later", qk_norm="head", defaults={"head_dim": 128}),
    "olmo2": Family(qk_norm="all", norms_after=True, defaults={"rms_norm_eps": 1e-5}),
    "olmo3": Family(
        "three of four",
        qk_norm="all",
        norms_after=True,
        defaults={"rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "sliding_window": 4096},
    ),
    "smollm3": Family(
        skips_rotary=True, defaults={"num_key_value_heads": 4, "rope_theta": 2e6, "tie_word_embeddings": True}
    ),
}

DEFAULTS: Mapping[str, Any] = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "sliding_window": None,
    "use_sliding_window": False,
    "max_window_layers": 28,
    "no_rope_layer_interval": 4,
}

ONLY: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1, None),
    "clip_qkv": (None,),
    "quantization_config": (None,),
    "is_encoder_decoder": (False, None),
}
"""Keys of which only these values can be imported."""
