"""AdamW with a learning rate per stage.

Outer stages see more positions and are narrower than inner ones. Each stage's rate is the base rate times

    lambda_s = sqrt(4.6 * prod_{i>=s} N_i / prod_i N_i * D_S / D_s),   N_S = 1, D_S the innermost width

(paper, eq. 11; 4.6 are the bytes of a GPT-2 token, for which the base rate is meant). The rate of a group is set anew
at each step as base * schedule * multiplier: the multiplier stands beside it in the group and nowhere else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from hnet_lm.checks import require_choice, require_number
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.model import HNetLM
from hnet_lm.training.muon import MuonWithAdamW, Optimizer, is_for_muon, optimizers_of

BYTES_PER_GPT2_TOKEN = 4.6


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW. The paper states only the peak rates; the other values are this project's choice."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the matrices of mixers and MLPs, at AdamW's rates; AdamW for all else."""
    lr: float = 6.25e-4
    """Peak base rate; multiplied by the schedule and by each stage's multiplier."""
    lr_multipliers: tuple[float, ...] | None = None
    """One a stage, outermost first; None: the paper's formula from the widths and target ratios."""
    routing_lr_multiplier: float = 1.0
    """Of routing modules, relative to their stage (the paper: 1). Their gradients are small and, with small batches,
    noisy; a rate below 1 keeps Adam, which sees only directions, from wandering off their start."""
    betas: tuple[float, float] = (0.9, 0.95)
    muon_momentum: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    """On matrices only: not on norms, biases, pad vectors, A_log, D and dt_bias."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    average: float = 0.0
    """Decay of an exponential moving average of the weights, such as 0.999, which is then what is validated and
    published. 0: none."""

    def __post_init__(self) -> None:
        require_choice("optimizer.name", self.name, ("adamw", "muon"))
        for key in ("average", "muon_momentum"):
            require_number(f"optimizer.{key}", getattr(self, key), 0, below=1)
        for key in ("lr", "routing_lr_multiplier", "eps", "max_grad_norm"):
            require_number(f"optimizer.{key}", getattr(self, key), above=0)
        require_number("optimizer.weight_decay", self.weight_decay, 0)
        if len(self.betas) != 2:
            raise ConfigError(f"optimizer.betas: must be two numbers, got {self.betas}")
        for beta in self.betas:
            require_number("optimizer.betas", beta, 0, below=1)
        for multiplier in self.lr_multipliers or ():
            require_number("optimizer.lr_multipliers", multiplier, above=0)


def lr_multipliers(config: HNetConfig, target_ratios: Sequence[float]) -> list[float]:
    """lambda_s of every stage, outermost first. Of an isotropic model: 1."""
    if config.num_stages == 0:
        return [1.0]
    ratios = [*_positions_per_chunk(config, target_ratios), 1.0]
    widths = [stage.d_model for stage in config.stages]
    whole = math.prod(ratios)
    return [
        math.sqrt(BYTES_PER_GPT2_TOKEN * math.prod(ratios[s:]) / whole * widths[-1] / width)
        for s, width in enumerate(widths)
    ]


def _positions_per_chunk(config: HNetConfig, target_ratios: Sequence[float]) -> list[float]:
    """N of every stage that chunks: aimed at where that is learned, else what follows from the rule."""
    targets = iter(target_ratios)
    ratios = [next(targets) if chunker.learns else chunker.nominal_ratio for chunker in config.all_chunkers]
    for stage, ratio in enumerate(ratios):
        if ratio is None:
            name = config.chunker(stage).name
            raise ConfigError(f"optimizer.lr_multipliers: must be given, since stage {stage} is cut by {name!r}")
    return [ratio for ratio in ratios if ratio is not None]


def build_optimizer(model: HNetLM, config: OptimizerConfig, target_ratios: Sequence[float]) -> Optimizer:
    """The optimizer with a group for every stage, with and without weight decay; frozen parameters are in none.

    `fused`: one pass over a parameter and its moments for an update, on the CPU and on CUDA.
    """
    multipliers = config.lr_multipliers
    if multipliers is None:
        multipliers = lr_multipliers(model.config, target_ratios)
    num_stages = len(model.config.stages)
    if len(multipliers) != num_stages:
        raise ConfigError(f"optimizer.lr_multipliers: the model has {num_stages} stages, not {len(multipliers)}")
    stages = model.parameter_stages()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    of_muon: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            routing = config.routing_lr_multiplier if ".routing." in name else 1.0
            decay = config.weight_decay if decays(name, parameter) else 0.0
            kind = of_muon if config.name == "muon" and is_for_muon(name, parameter) else groups
            kind.setdefault((multipliers[stages[name]] * routing, decay), []).append(parameter)
    adamw = torch.optim.AdamW(_groups(groups, config.lr), betas=config.betas, eps=config.eps, fused=True)
    if not of_muon:
        return adamw
    muon = torch.optim.Muon(_groups(of_muon, config.lr), momentum=config.muon_momentum, adjust_lr_fn="match_rms_adamw")
    return MuonWithAdamW(muon, adamw)


def _groups(groups: Mapping[tuple[float, float], list[nn.Parameter]], rate: float) -> list[dict[str, Any]]:
    return [
        {"params": parameters, "lr": rate * multiplier, "lr_multiplier": multiplier, "weight_decay": decay}
        for (multiplier, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to the matrices of linear maps, not to the embedding's rows or convolutions."""
    return parameter.dim() == 2 and not name.endswith("embedding.weight")


def forget_updates(optimizer: Optimizer) -> None:
    """As if no update had been made: no moments."""
    for part in optimizers_of(optimizer):
        part.state.clear()


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """The base rate of the next update (peak times schedule); each group runs at its multiple."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_multiplier"]
