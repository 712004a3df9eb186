"""One stage of an architecture, and the Mamba-2 mixers that all stages share. `config` puts them together."""

from dataclasses import dataclass, fields, replace

from hnet_lm.attention_config import AttentionConfig
from hnet_lm.checks import require_bool, require_number, require_size
from hnet_lm.errors import ConfigError
from hnet_lm.layout import parse_layout


@dataclass(frozen=True)
class Mamba2Config:
    """The Mamba-2 mixers of all stages. `chunk_size`, the block length of the reference code's scan, is unused here."""

    d_state: int = 128
    d_conv: int = 4
    expand: int = 2
    chunk_size: int = 256

    def __post_init__(self) -> None:
        for key in fields(self):
            require_size(f"ssm_cfg.{key.name}", getattr(self, key.name), least=1)


@dataclass(frozen=True)
class StageConfig:
    """One stage: its width, and either an encoder and a decoder, or (innermost) one main network."""

    d_model: int
    d_intermediate: int
    attention: AttentionConfig
    encoder: str | None = None
    main_network: str | None = None
    decoder: str | None = None
    norm_eps: float = 1e-5
    """Of every RMS norm but that inside a Mamba-2 mixer."""
    norms_after: bool = False
    """x + norm(mixer(x)) instead of x + mixer(norm(x)), and the same of MLPs (OLMo 2)."""

    def __post_init__(self) -> None:
        require_size("d_model", self.d_model, least=1)
        require_size("d_intermediate", self.d_intermediate, least=0)
        given = tuple(name is not None for name in (self.encoder, self.main_network, self.decoder))
        if given not in ((True, False, True), (False, True, False)):
            raise ConfigError("a stage has either an encoder and a decoder, or a main_network")
        blocks = [block for layout in self.layouts.values() for block in parse_layout(layout)]
        if self.d_intermediate == 0 and any(block.has_mlp for block in blocks):
            layouts = "/".join(self.layouts.values())
            raise ConfigError(f"d_intermediate: a stage of {layouts} has MLPs (upper case), so it cannot be 0")
        heads, rotary = self.attention.num_heads, self.attention.rotary_emb_dim
        if self.attention.head_dim is None and self.d_model % heads:
            raise ConfigError(f"attn_cfg.num_heads: {heads} heads do not divide d_model {self.d_model}")
        if rotary > self.head_dim:
            raise ConfigError(f"attn_cfg.rotary_emb_dim: {rotary} is more than the head width {self.head_dim}")
        require_number("norm_eps", self.norm_eps, above=0, below=1)
        require_bool("norms_after", self.norms_after)
        num_blocks = max(len(parse_layout(layout)) for layout in self.layouts.values())
        for name in ("global_blocks", "unrotated_blocks"):
            beyond = [block for block in getattr(self.attention, name) if block >= num_blocks]
            if beyond:
                raise ConfigError(f"attn_cfg.{name}: there is no block {beyond[0]} in a stack of {num_blocks}")

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.attention.head_dim or self.d_model // self.attention.num_heads

    def of_block(self, index: int) -> "StageConfig":
        """As this block of a stack has it."""
        attention = self.attention.of_block(index)
        return self if attention is self.attention else replace(self, attention=attention)

    @property
    def layouts(self) -> dict[str, str]:
        """The stacks of this stage by name, in the order data passes through them."""
        named = {"encoder": self.encoder, "main_network": self.main_network, "decoder": self.decoder}
        return {name: layout for name, layout in named.items() if layout is not None}

    @property
    def is_innermost(self) -> bool:
        return self.main_network is not None
