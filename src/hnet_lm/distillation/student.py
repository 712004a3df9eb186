"""The architecture of a student: the teacher's blocks between an encoder and a decoder over bytes."""

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError


def student_config(
    teacher: HNetConfig, *, d_model: int, encoder: str = "m4", decoder: str = "m4", vocab_size: int = 256
) -> HNetConfig:
    """An H-Net of one stage. `d_model` is the width of its outer networks, at most the teacher's.

    The layouts have no MLPs. Raises ConfigError for a teacher that is no isotropic model.
    """
    if teacher.num_stages:
        raise ConfigError(f"the teacher must be an isotropic model, but it chunks {teacher.num_stages} times")
    table, (inner,) = teacher.to_dict(), teacher.stages
    num_heads = inner.attention.num_heads if d_model % inner.attention.num_heads == 0 else 1
    outer = {"num_heads": num_heads, "rotary_emb_dim": d_model // num_heads // 4 * 2, "window_size": -1}
    plain = {"num_kv_heads": None, "head_dim": None, "rotary_base": 10_000.0, "rotary_scaling": None}
    plain |= {"qkv_bias": False, "qk_norm": None, "global_blocks": [], "unrotated_blocks": []}
    attention = {key: [(outer | plain)[key], *values] for key, values in table["attn_cfg"].items()}
    norms = {"norm_eps": 1e-5, "norms_after": False}
    own = {key: [norms[key], *table[key]] for key in teacher.own_norms}
    return HNetConfig.from_dict(
        {
            "arch_layout": [encoder, table["arch_layout"], decoder],
            "d_model": [d_model, *table["d_model"]],
            "d_intermediate": [0, *table["d_intermediate"]],
            "vocab_size": vocab_size,
            "ssm_cfg": table["ssm_cfg"],
            "attn_cfg": attention,
            "tie_embeddings": False,
            **own,
        }
    )
