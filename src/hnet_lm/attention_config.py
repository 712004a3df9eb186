"""The attention of a stage: the reference schema's `attn_cfg`, and what the Transformers of others have beside it."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from hnet_lm.checks import require_bool, require_choice, require_number, require_size
from hnet_lm.errors import ConfigError
from hnet_lm.rotary_scaling import RotaryScaling, parse_scaling

QKNorm = Literal["head", "all"]


@dataclass(frozen=True)
class AttentionConfig:
    """Causal self-attention of a stage. `window_size` w sees positions t-w .. t; -1 sees all.

    The first three fields are the reference schema's. The others are for the Transformers of others, and written only
    where a stage has them.
    """

    num_heads: int
    rotary_emb_dim: int = 0
    window_size: int = -1
    num_kv_heads: int | None = None
    """Heads of keys and values, each for as many of queries; None: one for each (grouped-query attention)."""
    head_dim: int | None = None
    """Width of a head; None: d_model / num_heads."""
    rotary_base: float = 10_000.0
    rotary_scaling: RotaryScaling | None = None
    """In a stage with `global_blocks`, of these alone: a window reaches no further than before (OLMo 3)."""
    qkv_bias: bool = False
    qk_norm: QKNorm | None = None
    """An RMS norm of queries and of keys before they are rotated: of each head (Qwen 3), or of all at once (OLMo 2)."""
    global_blocks: tuple[int, ...] = ()
    """Blocks of each stack that see all where the others have a window, counted from 0."""
    unrotated_blocks: tuple[int, ...] = ()
    """Blocks of each stack without rotary positions."""

    def __post_init__(self) -> None:
        require_size("attn_cfg.num_heads", self.num_heads, least=1)
        require_size("attn_cfg.rotary_emb_dim", self.rotary_emb_dim, least=0)
        require_size("attn_cfg.window_size", self.window_size, least=-1)
        if self.rotary_emb_dim % 2:
            raise ConfigError(f"attn_cfg.rotary_emb_dim: must be even, got {self.rotary_emb_dim}")
        for name in ("num_kv_heads", "head_dim"):
            if getattr(self, name) is not None:
                require_size(f"attn_cfg.{name}", getattr(self, name), least=1)
        if self.num_kv_heads == self.num_heads:
            object.__setattr__(self, "num_kv_heads", None)
        if self.num_heads % self.kv_heads:
            raise ConfigError(f"attn_cfg.num_kv_heads: {self.kv_heads} do not divide num_heads {self.num_heads}")
        require_number("attn_cfg.rotary_base", self.rotary_base, above=1)
        if not isinstance(self.rotary_scaling, RotaryScaling | None):
            raise ConfigError(f"attn_cfg.rotary_scaling: must be a RotaryScaling or None, got {self.rotary_scaling!r}")
        require_bool("attn_cfg.qkv_bias", self.qkv_bias)
        if self.qk_norm is not None:
            require_choice("attn_cfg.qk_norm", self.qk_norm, get_args(QKNorm))
        for name in ("global_blocks", "unrotated_blocks"):
            if not isinstance(getattr(self, name), tuple):
                raise ConfigError(f"attn_cfg.{name}: must be a list of blocks, got {getattr(self, name)!r}")
            for block in getattr(self, name):
                require_size(f"attn_cfg.{name}", block, least=0)
        if self.global_blocks and self.window_size < 0:
            raise ConfigError("attn_cfg.global_blocks: goes with a window_size that the other blocks have")

    @property
    def kv_heads(self) -> int:
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    def of_block(self, index: int) -> "AttentionConfig":
        """As this block of a stack has it: without what names blocks."""
        if not self.global_blocks and not self.unrotated_blocks:
            return self
        is_global = index in self.global_blocks
        return replace(
            self,
            window_size=-1 if is_global else self.window_size,
            rotary_scaling=self.rotary_scaling if is_global or not self.global_blocks else None,
            rotary_emb_dim=0 if index in self.unrotated_blocks else self.rotary_emb_dim,
            global_blocks=(),
            unrotated_blocks=(),
        )


REFERENCE_ATTENTION = ("num_heads", "rotary_emb_dim", "window_size")
OWN_ATTENTION = tuple(key.name for key in fields(AttentionConfig) if key.name not in REFERENCE_ATTENTION)
PLAIN_ATTENTION = AttentionConfig(1)


def attention_value(key: str, value: Any) -> Any:
    """A value of `attn_cfg` as JSON has it, as the field has it."""
    if key == "rotary_scaling" and value is not None:
        return parse_scaling(value)
    return tuple(value) if key in ("global_blocks", "unrotated_blocks") and isinstance(value, list) else value


def written_value(value: Any) -> Any:
    """The other way round."""
    if isinstance(value, RotaryScaling):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value
