"""The reference code's checkpoints: its JSON and its weights, read and written.

This is the only file that knows the reference's names. It nests as we do, with two differences: the innermost stack
lies one `main_network` deeper, and a pad vector belongs to the stage it leads into. Files are read without running
anything in them: `.safetensors`, or `.pt` by weights_only of torch, which refuses every pickle that asks for more
than tensors and the few inert objects named here.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError, ConfigError
from hnet_lm.model import HNetLM
from hnet_lm.shards import INDEX_SUFFIX, read_sharded
from hnet_lm.weights import drop_tied_head, fill, meta_model, plain_names, read_safetensors, unreadable

HEAD, EMBEDDING = "lm_head.weight", "embeddings.weight"
KIND_OF_SUFFIX = {".safetensors": "safetensors", ".pt": "pt", ".pth": "pt", ".bin": "pt", ".ckpt": "pt"}

# Our part of a name -> the reference's. What is not listed has one name in both.
PARTS = {
    "blocks": "layers",
    "mixer_norm": "norm1",
    "mlp_norm": "norm2",
    "qkv_proj": "Wqkv",
    "conv": "conv1d",
    "routing": "routing_module",
    "q_proj": "q_proj_layer",
    "k_proj": "k_proj_layer",
}


def load_official(
    config: str | Path | Mapping[str, Any],
    weights: str | Path | Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> HNetLM:
    """The model of a reference config (JSON file or dict) and its weights (`.pt`, `.safetensors` or state dict).

    Weights in several files are named by their index (`.index.json`). They may be as a training framework saved them,
    inside a dictionary or with prefixes (see `plain_names`).
    Raises ConfigError or CheckpointError.
    """
    parsed = HNetConfig.from_dict(config) if isinstance(config, Mapping) else HNetConfig.load(config)
    if isinstance(weights, Mapping):
        tensors, source = dict(weights), "state dict"
    else:
        tensors, source = _read(Path(weights)), str(weights)
    model = meta_model(parsed)
    names = parameter_names(model)
    tensors = plain_names(tensors, names.values(), source)
    if parsed.tie_embeddings:
        drop_tied_head(tensors, HEAD, EMBEDDING, source)
    return fill(model, tensors, names, source, dtype, device)


def state_dict(model: HNetLM) -> dict[str, Tensor]:
    """The weights under the reference's names, for `torch.save` or safetensors; `model.config.to_dict()` is their JSON.

    Where embedding and head are tied it has both names, as the reference's own state dict does.
    """
    parameters = dict(model.named_parameters())
    tensors = {theirs: parameters[ours].detach() for ours, theirs in parameter_names(model).items()}
    if model.config.tie_embeddings:
        tensors[HEAD] = tensors[EMBEDDING].clone()
    return tensors


def parameter_names(model: HNetLM) -> dict[str, str]:
    """Our name of every parameter -> its name in the reference code; one to one.

    Raises ConfigError for a model that the reference code cannot hold.
    """
    own = [*(f"attn_cfg.{key}" for key in model.config.own_attention), *model.config.own_norms]
    own += ["ngrams"] if model.config.ngrams is not None else []
    if own:
        raise ConfigError(f"the reference code cannot hold this model: it has no {', '.join(own)}")
    return {name: _reference_name(name) for name, _ in model.named_parameters()}


def _reference_name(name: str) -> str:
    if name == "embedding.weight":
        return EMBEDDING
    if name == HEAD:
        return HEAD
    network = re.fullmatch(r"network((?:\.main_network)*)\.(.+)", name)
    assert network is not None
    stages, part = network.groups()
    if part.startswith(("blocks.", "norm.")):
        part = f"main_network.{part}"
    if part == "widen.pad_vector":
        part = "main_network.pad_dimension"
    part = re.sub(r"^(encoder|decoder|main_network)\.norm\.", r"\1.rmsnorm.", part)
    return f"backbone{stages}." + ".".join(PARTS.get(word, word) for word in part.split("."))


class _Inert:
    """Stands in for a settings object that was pickled beside the weights: nothing of it is imported, kept or run."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# What settings and numbers beside the weights pickle to. The reference loads its files with OmegaConf's lists allowed;
# training loops save arguments, paths and losses.
INERT_GLOBALS = (
    "omegaconf.listconfig.ListConfig",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "typing.Any",
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "collections.defaultdict",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "str")),
)


def _read(path: Path) -> dict[str, Any]:
    """The tensors of a weights file, or of those that an index names. Which kind a file is, its first bytes say."""
    path = path.expanduser()
    if path.name.endswith(INDEX_SUFFIX):
        return read_sharded(path, _read_file)
    return _read_file(path)


def _read_file(path: Path) -> dict[str, Any]:
    kind = _kind(path)
    if kind == "safetensors":
        return dict(read_safetensors(path))
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in INERT_GLOBALS]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise unreadable(path, "not a .pt file of tensors and nothing else") from error
        raise CheckpointError(
            f"{path}: refused: its pickle asks for the object {wanted.group(1)}, which could run code; "
            "save the tensors alone (a state dict)"
        ) from error
    except Exception as error:  # of any kind: where a pickle is damaged, whatever reads it may stumble anywhere
        raise unreadable(path, "not a complete .pt file") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: must hold a state dict, got {type(content).__name__}")
    return dict(content)


def _kind(path: Path) -> str:
    """`safetensors` or `pt`. Raises CheckpointError for a file that is neither, by its bytes and by its name."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith((b"PK", b"\x80")):
        if path.suffix == ".safetensors":  # torch itself would go by the name
            raise CheckpointError(f"{path}: is a .pt file under another name; rename it")
        return "pt"
    if path.suffix not in KIND_OF_SUFFIX:
        raise unreadable(path, "weights are read from .pt or .safetensors files")
    return KIND_OF_SUFFIX[path.suffix]
