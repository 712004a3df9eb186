"""LoRA: beside a linear map W two thin matrices are trained, and the map becomes W + alpha / rank * B A.

The equation is that of Hu et al. (arXiv 2106.09685). peft puts the matrices into the model, names them and writes them:
what is written here, it loads, and what it wrote for a model of this package, alone or within its form for
transformers, is read here.
"""

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save
from torch import Tensor, nn

from hnet_lm import checkpoint
from hnet_lm.checkpoint import ADAPTER_CONFIG
from hnet_lm.errors import CheckpointError, ConfigError
from hnet_lm.model import HNetLM
from hnet_lm.weights import check_tensors, fill, meta_model, plain_names, read_safetensors

ADAPTER_WEIGHTS = "adapter_model.safetensors"
NAME = "default"
"""Of the one adapter that a model has here."""
BYTE_MODEL = ".byte_model."
"""What an entropy chunker asks is not trained."""
MORE_THAN_PRODUCTS = (
    *("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "layer_replication"),
    *("target_parameters", "use_qalora", "use_bdlora", "kasa_config", "alora_invocation_tokens"),
)
"""Keys of peft's configuration for what is no product of two matrices."""
PREFIX = "base_model.model."
"""Stands before every name in a file of peft's."""


class Adapter:
    """The thin matrices of a model, which alone are trained."""

    def __init__(self, model: HNetLM, config: peft.LoraConfig):
        """Puts them into the model, B at zero. Raises ValueError where it has no such parts, or no linear maps."""
        self._model = model
        self._config = config
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about classes of transformers that this is none of
            peft.inject_adapter_in_model(config, model)
        for path, module in model.named_modules():
            if isinstance(module, BaseTunerLayer) and not isinstance(module, Linear):
                raise ValueError(f"{path} is no linear map")

    @classmethod
    def fresh(cls, model: HNetLM, base: str, rank: int, alpha: float, targets: Sequence[str]) -> "Adapter":
        """One to train; `base` names the model without it, for those who load the adapter. Raises ConfigError."""
        paths = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
        paths = [path for path in paths if BYTE_MODEL not in path]
        for target in targets:
            if not any(f".{path}".endswith(f".{target}") for path in paths):
                known = ", ".join(sorted({path.rpartition(".")[2] for path in paths}))
                raise ConfigError(f"lora.targets: {target!r} names no linear map of the model; there are {known}")
        chosen: dict[str, Any] = {"lora_alpha": alpha}  # peft's type is int, and it only divides it
        config = peft.LoraConfig(r=rank, target_modules=list(targets), **chosen)
        if model.config.byte_model is not None:  # peft warns where there is nothing to leave out
            config.exclude_modules = rf".*{re.escape(BYTE_MODEL)}.*"
        config.base_model_name_or_path = base
        return cls(model, config)

    @torch.no_grad()
    def merged(self) -> dict[str, Tensor]:
        """The weights of the model with what has been learned added to them, by the names of a plain one."""
        weights = {}
        layers = {path: layer for path, layer in self._model.named_modules() if isinstance(layer, Linear)}
        for name, weight in self._model.state_dict().items():
            path, found, rest = name.partition(".base_layer.")
            if found:
                is_matrix = rest == "weight"
                weights[f"{path}.{rest}"] = weight + layers[path].get_delta_weight(NAME) if is_matrix else weight
            elif ".lora_" not in name:
                weights[name] = weight
        return weights

    def files(self) -> dict[str, bytes]:
        """What peft's `save_pretrained` writes, by name."""
        tensors = {PREFIX + name: tensor.cpu().contiguous() for name, tensor in self._saved().items()}
        kept = {
            key: sorted(value) if isinstance(value, set) else value for key, value in self._config.to_dict().items()
        }
        kept["inference_mode"] = True
        return {
            ADAPTER_CONFIG: (json.dumps(kept, indent=2, sort_keys=True) + "\n").encode(),
            ADAPTER_WEIGHTS: save(tensors, {"format": "pt"}),
        }

    @torch.no_grad()
    def read(self, directory: Path) -> None:
        """Take the matrices that a directory holds. Raises CheckpointError."""
        file, wanted = str(directory / ADAPTER_WEIGHTS), self._saved()
        found = plain_names(read_safetensors(file), wanted, file)
        check_tensors(wanted, found, {name: name for name in wanted}, file)
        for name, weight in wanted.items():
            weight.copy_(found[name])

    def _saved(self) -> dict[str, Tensor]:
        """The matrices themselves, by the names of files."""
        weights = self._model.named_parameters()
        return {name.replace(f".{NAME}.", "."): weight.detach() for name, weight in weights if ".lora_" in name}


class SavedAdapter:
    """The folder of an adapter, as peft writes it."""

    def __init__(self, directory: str | Path) -> None:
        """Raises CheckpointError."""
        self._directory = Path(directory)
        self._file = self._directory / ADAPTER_CONFIG
        try:
            config = peft.PeftConfig.from_pretrained(str(directory))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"{self._file}: is not a configuration of peft: {_first_line(error)}") from error
        if not isinstance(config, peft.LoraConfig):
            raise CheckpointError(f"{self._file}: is not LoRA but {config.peft_type}, which cannot be added to weights")
        more = [key for key in MORE_THAN_PRODUCTS if getattr(config, key, None)]
        more += ["bias"] if config.bias != "none" else []
        if more:
            keys = ", ".join(more)
            raise CheckpointError(f"{self._file}: {keys}: only products of two matrices can be added to weights")
        if not isinstance(config.base_model_name_or_path, str) or not config.base_model_name_or_path:
            raise CheckpointError(f"{self._file}: base_model_name_or_path does not say which model it was trained for")
        self._config = config
        self.base: str = config.base_model_name_or_path
        """The model it was trained for."""

    def merged(self, dtype: torch.dtype = torch.float32) -> HNetLM:
        """That model with the adapter added to its weights. Raises CheckpointError and ConfigError."""
        try:
            model = checkpoint.load(self.base, dtype=torch.float32)
        except (CheckpointError, ConfigError) as error:
            raise CheckpointError(f"{self._file}: base_model_name_or_path: {error}") from error
        try:
            adapter = Adapter(model, self._config)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{self._file}: does not go with {self.base}: {_first_line(error)}") from error
        adapter.read(self._directory)
        weights = adapter.merged()
        names = {name: name for name in weights}
        return fill(meta_model(model.config), weights, names, str(self._directory), dtype, "cpu")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
