"""A run goes on from a checkpoint: each rank reads its own share of it, for however many ranks there are."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import safe_open
from torch import nn
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from hnet_lm import checkpoint
from hnet_lm.training.averages import AVERAGES, AveragedWeights
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.muon import Optimizer
from hnet_lm.training.run_folder import ADAPTER
from hnet_lm.training.saving import as_torch_takes, no_warning_of_one_rank
from hnet_lm.weights import read_safetensors

if TYPE_CHECKING:
    from hnet_lm.lora import Adapter


def restore(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    ranks: Ranks,
    averages: AveragedWeights | None = None,
    adapter: "Adapter | None" = None,
) -> None:
    """Load weights, or the adapter alone, and optimizer into what `distribute` made.

    Averages begin with the weights where the checkpoint has none. Raises TrainingError where the model that is adapted
    is another one now.
    """
    if adapter is not None:
        _restore_adapter(path, adapter)
        _restore_moments(path / "optimizer", model, optimizer, ranks)
        return
    if averages is not None and (path / AVERAGES).exists():
        read_share(path / AVERAGES, model)
        averages.begin()
    read_share(path / checkpoint.WEIGHTS, model)
    if averages is not None and not (path / AVERAGES).exists():
        averages.begin()
    _restore_moments(path / "optimizer", model, optimizer, ranks)


def _restore_adapter(path: Path, adapter: "Adapter") -> None:
    adapter.read(path / ADAPTER)
    saved = read_safetensors(path / checkpoint.WEIGHTS)
    for name, weight in adapter.merged().items():
        if not torch.allclose(weight.cpu(), saved[name], rtol=1e-3, atol=1e-5):  # product and sum may round differently
            raise TrainingError(f"{path}: the model of model.init_from was another one; {name} has changed since")


def restore_random_states(path: Path, ranks: Ranks) -> None:
    """Draw on as at the checkpoint; last before the first update, since what is tried before it draws as well."""
    random = torch.load(path / "random.pt", weights_only=True)
    torch.set_rng_state(random["cpu"])
    if ranks.device.type == "cuda" and random["cuda"] is not None:
        torch.cuda.set_rng_state(random["cuda"])


@torch.no_grad()
def read_share(file: Path, model: nn.Module) -> None:
    """Read from a file of weights what this rank has of each parameter, and nothing else. (Tied weights are one.)"""
    with safe_open(file, framework="pt") as stored:
        for name, parameter in model.named_parameters():
            weight = parameter.detach()
            if isinstance(weight, DTensor):  # FSDP shards the first dimension
                mesh, local = weight.device_mesh, weight.to_local()
                size = -(-weight.shape[0] // mesh.size())
                first = mesh.get_local_rank() * size
                if local.numel():
                    local.copy_(stored.get_slice(name)[first : first + local.shape[0]])
            else:
                weight.copy_(stored.get_tensor(name))


def _restore_moments(path: Path, model: nn.Module, optimizer: Optimizer, ranks: Ranks) -> None:
    """Load the optimizer's moments. A parameter that had none, as a frozen one or of skipped updates, has none now."""
    saved = FileSystemReader(path).read_metadata().state_dict_metadata
    fresh = cast(dict[str, Any], get_optimizer_state_dict(model, as_torch_takes(optimizer)))
    moments = {
        name: values
        for name, values in fresh["state"].items()
        if all(f"state.{name}.{moment}" in saved for moment in values)
    }
    if moments:
        with no_warning_of_one_rank():
            state_dict_loader.load({"state": moments}, checkpoint_id=path, no_dist=ranks.num_ranks == 1)
    found = {"state": moments, "param_groups": fresh["param_groups"]}
    set_optimizer_state_dict(model, as_torch_takes(optimizer), found, options=StateDictOptions(strict=False))
