"""The configuration: an architecture in the reference schema, and what the training loss needs beside it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from hnet_lm.checks import require_number
from hnet_lm.config import TRANSFORMERS_TYPE, HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.training.config import paper_target_ratios

REMOTE_FILE = "modeling_hnet_lm"
"""The file of a saved directory that transformers runs where `trust_remote_code=True`, without its suffix."""
AUTO_MAP = {
    "AutoConfig": f"{REMOTE_FILE}.HNetLMConfig",
    "AutoModelForCausalLM": f"{REMOTE_FILE}.HNetLMForCausalLM",
}


class HNetLMConfig(PreTrainedConfig):
    """`hnet` is the architecture as `hnet_lm.HNetConfig` reads it; it must be given.

    Raises ConfigError for an architecture or target ratios that do not fit.
    """

    model_type = TRANSFORMERS_TYPE
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        *("cache", "hidden_states", "routings", "next_byte_loss", "ratio_loss"),
    ]

    hnet: dict[str, Any] | None = None
    target_ratios: list[float] | None = None
    """Of every stage that learns where to cut, outermost first: positions per chunk that training aims at. None: the
    paper's."""
    ratio_loss_weight: float = 0.03
    use_cache: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.hnet is None:  # transformers makes one without arguments, to compare with
            super().__post_init__(**kwargs)
            return
        architecture = self.architecture
        self.hnet = architecture.to_dict()
        self.target_ratios = self._checked_ratios(architecture)
        self.bos_token_id, self.eos_token_id = architecture.bos_id, architecture.eos_id
        self.pad_token_id = architecture.eos_id  # any id would do: what counts as padding is said by the attention mask
        self.tie_word_embeddings = False  # a tied model has no weight of its own for the head
        super().__post_init__(**{key: value for key, value in kwargs.items() if key not in TAKEN_FROM_ARCHITECTURE})
        self.auto_map = dict(AUTO_MAP)

    def _checked_ratios(self, architecture: HNetConfig) -> list[float]:
        num_learned = sum(chunker.learns for chunker in architecture.all_chunkers)
        ratios = self.target_ratios
        if ratios is None:
            return list(paper_target_ratios(num_learned)) if num_learned else []
        if len(ratios) != num_learned:
            raise ConfigError(
                f"target_ratios: the model learns where to cut in {num_learned} stages, but {len(ratios)} are given"
            )
        for ratio in ratios:
            require_number("target_ratios", ratio, above=1)
        return [float(ratio) for ratio in ratios]

    @property
    def architecture(self) -> HNetConfig:
        """Raises ConfigError."""
        if not isinstance(self.hnet, Mapping):
            raise ConfigError("hnet: the architecture is missing; give HNetLMConfig(hnet=HNetConfig(...).to_dict())")
        return HNetConfig.from_dict(self.hnet)

    @property
    def vocab_size(self) -> int:
        return self.architecture.vocab_size

    @property
    def hidden_size(self) -> int:
        """Width of the outermost stage."""
        return self.architecture.stages[0].d_model

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Nothing: a saved directory names its own file, whichever way the configuration was loaded."""

    @classmethod
    def of(cls, architecture: HNetConfig, **options: Any) -> "HNetLMConfig":
        """Of an architecture; `options` are the other fields."""
        return cls(hnet=architecture.to_dict(), **options)


TAKEN_FROM_ARCHITECTURE = ("auto_map", "vocab_size", "hidden_size")
