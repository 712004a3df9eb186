"""The architecture of a model, read from and written to the reference code's JSON schema.

A layout nests as the model does: `["m4", ["T1m4", ["T26"], "m4T1"], "m4"]` is an encoder, what lies inside, and a
decoder, until the innermost list holds one stack, whose letters `layout` reads. Every other list of the schema has one
entry per stage, outermost first. A configuration that exists is valid: whatever does not fit raises `ConfigError` on
construction.

Further keys extend the schema; a plain H-Net has none of them. For the models that an H-Net is compared with:
`chunkers` (what cuts each stage, see `chunker_config`), `chunking` (how the parts around it are put together, see
`chunking_config`), `byte_model` (the small model that an entropy chunker asks, a configuration of its own), `spacebyte`
(true: stages are put together as in SpaceByte, see `model/hnet.py`), `ngrams` (hashed n-gram embeddings, see
`ngram_config`) and `reads_tokens` (true: a model of BPE tokens instead of bytes). For the Transformers of others, each
a list with one entry per stage: those of `attn_cfg` that `AttentionConfig` names, and `norm_eps` and `norms_after` of
`StageConfig`; for their tokenizers `special_ids`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hnet_lm.attention_config import (
    OWN_ATTENTION,
    PLAIN_ATTENTION,
    REFERENCE_ATTENTION,
    AttentionConfig,
    attention_value,
    written_value,
)
from hnet_lm.checks import check_keys, per_stage, require_bool, require_size
from hnet_lm.chunker_config import CHUNKERS, ChunkerConfig, ChunkerSite, parse_chunkers
from hnet_lm.chunking_config import ChunkingConfig, parse_chunking, written
from hnet_lm.errors import ConfigError
from hnet_lm.inputs import read_text
from hnet_lm.layout import parse_layout
from hnet_lm.named_configs import config_file
from hnet_lm.ngram_config import NgramConfig, parse_ngrams
from hnet_lm.stage_config import Mamba2Config, StageConfig
from hnet_lm.tables import to_table

MAMBA2_HEAD_DIM = 64
TRANSFORMERS_TYPE = "hnet_lm"
"""The `model_type` of a config.json for transformers, which has the architecture under `hnet`."""
EXTENSIONS = (
    *("chunkers", "chunking", "byte_model", "spacebyte", "ngrams", "reads_tokens"),
    *("norm_eps", "norms_after", "special_ids"),
)


@dataclass(frozen=True)
class HNetConfig:
    """The whole architecture: its stages from the outermost (0) to the innermost, and what they share."""

    stages: tuple[StageConfig, ...]
    mamba2: Mamba2Config = field(default_factory=Mamba2Config)
    vocab_size: int = 256
    tie_embeddings: bool = False
    chunkers: tuple[ChunkerConfig, ...] = ()
    """Of every stage that chunks; empty: all are dynamic."""
    chunking: tuple[ChunkingConfig, ...] = ()
    """Of every stage that chunks; empty: all are put together as the paper's."""
    byte_model: "HNetConfig | None" = None
    spacebyte: bool = False
    ngrams: NgramConfig | None = None
    reads_tokens: bool = False
    """Ids are tokens of a BPE tokenizer, and behind them BOS and EOS; else bytes."""
    special_ids: tuple[int, int] | None = None
    """BOS and EOS of a model of tokens that has them elsewhere; they may be one id."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError("arch_layout: a model has at least one stage")
        if [stage.is_innermost for stage in self.stages] != [False] * (len(self.stages) - 1) + [True]:
            raise ConfigError("arch_layout: the last stage, and only it, has a main_network")
        require_size("vocab_size", self.vocab_size, least=256)
        if self.vocab_size == 257:
            raise ConfigError("vocab_size: 257 leaves no room for both BOS and EOS; take 256 (text) or 258 (any bytes)")
        require_bool("tie_embeddings", self.tie_embeddings)
        widths = [stage.d_model for stage in self.stages]
        if widths != sorted(widths):
            raise ConfigError(f"d_model: widths must not shrink inwards, got {widths}")
        for stage in self.stages:
            uses_mamba = any(b.mixer == "mamba2" for layout in stage.layouts.values() for b in parse_layout(layout))
            if uses_mamba and stage.d_model * self.mamba2.expand % MAMBA2_HEAD_DIM:
                raise ConfigError(
                    f"ssm_cfg.expand: {self.mamba2.expand} x d_model {stage.d_model} "
                    f"is not a multiple of the Mamba-2 head width {MAMBA2_HEAD_DIM}"
                )
        self._check_extensions()

    def _check_extensions(self) -> None:
        for key, entries in (("chunkers", self.chunkers), ("chunking", self.chunking)):
            if entries and len(entries) != self.num_stages:
                raise ConfigError(f"{key}: the model chunks {self.num_stages} times, not {len(entries)}")
        for stage, chunker in enumerate(self.chunkers):
            if chunker.reads_bytes and stage > 0:
                who = f"chunkers, entry {stage}: {chunker.name!r}"
                raise ConfigError(f"{who} looks at the bytes, which only the outermost stage has")
        if self.asks_byte_model != (self.byte_model is not None):
            raise ConfigError("byte_model: goes with an 'entropy' chunker, and an 'entropy' chunker needs it")
        if self.byte_model is not None and self.byte_model.vocab_size != self.vocab_size:
            sizes = f"{self.byte_model.vocab_size}, that of the model {self.vocab_size}"
            raise ConfigError(f"byte_model: its vocab_size is {sizes}; both must be the same")
        for key in ("spacebyte", "reads_tokens"):
            require_bool(key, getattr(self, key))
        if self.special_ids is not None:
            self._check_special_ids(self.special_ids)
        if self.reads_tokens and any(chunker.reads_bytes for chunker in self.chunkers):
            raise ConfigError("reads_tokens: a chunker that looks at bytes cannot cut a model of tokens")
        if self.reads_tokens and self.ngrams is not None:
            raise ConfigError("ngrams: go with a model of bytes, not with reads_tokens")
        if self.spacebyte and self.num_stages == 0:
            raise ConfigError("spacebyte: only a model that chunks can put its stages together as SpaceByte does")
        if self.spacebyte and self.chunking:
            raise ConfigError("spacebyte: says how the stages are put together, and so does chunking; give one of them")

    def _check_special_ids(self, special_ids: Any) -> None:
        if not self.reads_tokens:
            raise ConfigError("special_ids: go with a model of tokens (reads_tokens)")
        if not isinstance(special_ids, tuple) or len(special_ids) != 2:
            raise ConfigError(f"special_ids: must be two ids, of BOS and of EOS, got {special_ids!r}")
        for id in special_ids:
            require_size("special_ids", id, least=0)
            if id >= self.vocab_size:
                raise ConfigError(f"special_ids: {id} is beyond a vocabulary of {self.vocab_size}")

    @property
    def num_stages(self) -> int:
        """How many times the model chunks: 0 for an isotropic model."""
        return len(self.stages) - 1

    def chunker(self, stage: int) -> ChunkerConfig:
        """What cuts this stage."""
        return self.all_chunkers[stage]

    def chunking_of(self, stage: int) -> ChunkingConfig:
        """How this stage is put together."""
        return self.chunking[stage] if self.chunking else ChunkingConfig()

    @property
    def all_chunkers(self) -> tuple[ChunkerConfig, ...]:
        """Of every stage that chunks, outermost first."""
        return self.chunkers or (CHUNKERS.parse({"name": "dynamic"}, "chunkers"),) * self.num_stages

    def chunker_site(self, stage: int, byte_model: Any = None) -> ChunkerSite:
        """Where the chunker of a stage stands."""
        return ChunkerSite(stage, self.stages[stage].d_model, self.bos_id, self.eos_id, byte_model)

    @property
    def asks_byte_model(self) -> bool:
        """Whether a chunker needs the `byte_model`."""
        return any(chunker.asks_byte_model for chunker in self.chunkers)

    @property
    def bos_id(self) -> int:
        """Last but one of the vocabulary: 254 of 256 (never occurs in UTF-8), 256 of 258; or as `special_ids` says."""
        return self.vocab_size - 2 if self.special_ids is None else self.special_ids[0]

    @property
    def eos_id(self) -> int:
        return self.vocab_size - 1 if self.special_ids is None else self.special_ids[1]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "HNetConfig":
        """From the reference schema. Raises ConfigError for anything it does not know or that does not fit."""
        known = ("arch_layout", "d_model", "d_intermediate", "vocab_size", "ssm_cfg", "attn_cfg", "tie_embeddings")
        known += EXTENSIONS
        if not isinstance(data, Mapping):
            raise ConfigError(f"config: must be an object with the keys {', '.join(known)}, got {type(data).__name__}")
        check_keys(data, known, required=("arch_layout", "d_model", "d_intermediate", "attn_cfg"), where="config")
        layouts = _unnest(data["arch_layout"])
        num = len(layouts)
        d_model = per_stage("d_model", data["d_model"], num)
        d_intermediate = per_stage("d_intermediate", data["d_intermediate"], num)
        attn_cfg = data["attn_cfg"]
        check_keys(attn_cfg, REFERENCE_ATTENTION + OWN_ATTENTION, required=REFERENCE_ATTENTION, where="attn_cfg")
        columns = {key: per_stage(f"attn_cfg.{key}", attn_cfg[key], num) for key in attn_cfg}
        attention = [
            AttentionConfig(**{key: attention_value(key, column[s]) for key, column in columns.items()})
            for s in range(num)
        ]
        own = {key: per_stage(key, data[key], num) for key in ("norm_eps", "norms_after") if key in data}
        ssm_cfg = data.get("ssm_cfg", {})
        check_keys(ssm_cfg, [key.name for key in fields(Mamba2Config)], required=(), where="ssm_cfg")
        stages = tuple(
            StageConfig(
                *(d_model[s], d_intermediate[s], attention[s]),
                **layout,
                **{key: column[s] for key, column in own.items()},
            )
            for s, layout in enumerate(layouts)
        )
        plain = ("vocab_size", "tie_embeddings", "spacebyte", "reads_tokens")
        shared = {key: data[key] for key in plain if key in data}
        parsers = {
            "chunkers": lambda entries: parse_chunkers(entries, num - 1),
            "chunking": lambda entries: parse_chunking(entries, num - 1),
            "byte_model": _parse_byte_model,
            "ngrams": parse_ngrams,
            "special_ids": lambda ids: tuple(ids) if isinstance(ids, list) else ids,
        }
        shared |= {key: parse(data[key]) for key, parse in parsers.items() if key in data}
        return cls(stages, Mamba2Config(**ssm_cfg), **shared)

    def to_dict(self) -> dict[str, Any]:
        """Back to the reference schema; its extensions only where they say something."""
        arch_layout: list[Any] = [self.stages[-1].main_network]
        for stage in reversed(self.stages[:-1]):
            arch_layout = [stage.encoder, arch_layout, stage.decoder]
        return {
            "arch_layout": arch_layout,
            "d_model": [stage.d_model for stage in self.stages],
            "d_intermediate": [stage.d_intermediate for stage in self.stages],
            "vocab_size": self.vocab_size,
            "ssm_cfg": {key.name: getattr(self.mamba2, key.name) for key in fields(Mamba2Config)},
            "attn_cfg": {
                key: [written_value(getattr(stage.attention, key)) for stage in self.stages]
                for key in (*REFERENCE_ATTENTION, *self.own_attention)
            },
            "tie_embeddings": self.tie_embeddings,
            **{key: [getattr(stage, key) for stage in self.stages] for key in self.own_norms},
            **({"chunkers": [CHUNKERS.written(chunker) for chunker in self.chunkers]} if self.chunkers else {}),
            **({"chunking": [written(stage) for stage in self.chunking]} if self.chunking else {}),
            **({"byte_model": self.byte_model.to_dict()} if self.byte_model is not None else {}),
            **{key: True for key in ("spacebyte", "reads_tokens") if getattr(self, key)},
            **({"ngrams": to_table(self.ngrams)} if self.ngrams is not None else {}),
            **({"special_ids": list(self.special_ids)} if self.special_ids is not None else {}),
        }

    @property
    def own_attention(self) -> list[str]:
        """The keys of `attn_cfg` beside the reference schema that some stage has."""
        return [
            key
            for key in OWN_ATTENTION
            if any(getattr(stage.attention, key) != getattr(PLAIN_ATTENTION, key) for stage in self.stages)
        ]

    @property
    def own_norms(self) -> list[str]:
        """The keys of norms beside the reference schema that some stage has."""
        plain = {"norm_eps": StageConfig.norm_eps, "norms_after": StageConfig.norms_after}
        return [key for key, value in plain.items() if any(getattr(stage, key) != value for stage in self.stages)]

    @classmethod
    def load(cls, path: str | Path) -> "HNetConfig":
        """From a JSON file in the reference schema, or by a name that comes with the package (`hnet_2stage_L`).

        Of a directory that transformers loads it is the architecture in its config.json.
        """
        path = config_file(path, "models")
        text = read_text(path, ConfigError)
        try:
            data: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
        except ValueError as error:  # a number of thousands of digits
            raise ConfigError(f"{path}: not JSON: {error}") from error
        except RecursionError as error:
            raise ConfigError(f"{path}: nested too deeply to be a configuration") from error
        if isinstance(data, dict) and data.get("model_type") == TRANSFORMERS_TYPE:
            data = data.get("hnet")
        try:
            return cls.from_dict(data)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _parse_byte_model(data: Any) -> HNetConfig:
    try:
        return HNetConfig.from_dict(data)
    except ConfigError as error:
        raise ConfigError(f"byte_model: {error}") from error


def _unnest(layout: Any) -> list[dict[str, str]]:
    """The nested layout as one dict of named stacks a stage, outermost first."""
    match layout:
        case [str(main)]:
            return [{"main_network": main}]
        case [str(encoder), [*inner], str(decoder)]:
            return [{"encoder": encoder, "decoder": decoder}, *_unnest(inner)]
    raise ConfigError(f"arch_layout: {layout!r} is neither [stack] nor [encoder, [...], decoder]")
