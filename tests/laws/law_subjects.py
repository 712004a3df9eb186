"""What the laws are tested on: mixers, stacks, stages and whole models, all called alike.

Their weights are drawn so that every part matters and the router cuts often, at places that depend on the input.
Modules are run in float64. Whole models are run in float32, on bytes that keep every boundary probability away from
0.5, where rounding may turn the decision; or in float64, for gradients, which in float32 lose digits to cancellation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.model.isotropic import Isotropic
from hnet_lm.sequences import Sequences
from hnet_lm.state import State

MARGIN = 5e-4
"""Least distance of a boundary probability from its threshold in test data; float32 is off by less than a hundredth of
it."""


@torch.no_grad()
def decides_with_margin(exact: HNetLM, ids: Tensor, seqs: Sequences | None = None) -> bool:
    """Whether every stage decides about each of these bytes with a margin."""
    routings = exact(ids, seqs).routings
    thresholds = [getattr(chunker, "threshold", 0.5) for chunker in exact.config.all_chunkers]
    return all(
        bool((routing.boundary_prob - threshold).abs().gt(MARGIN).all())
        for routing, threshold in zip(routings, thresholds, strict=True)
    )


def config_of(
    arch_layout: list[Any],
    widths: Sequence[int],
    windows: Sequence[int],
    *,
    tie_embeddings: bool = False,
    vocab_size: int = 256,
    attention: dict[str, Any] | None = None,
    **extensions: Any,
) -> HNetConfig:
    """`attention` are keys of `attn_cfg` beside the reference schema, for every stage alike; `extensions` others."""
    num = len(widths)
    more = {key: [value] * num for key, value in (attention or {}).items()}
    return HNetConfig.from_dict(
        {
            "arch_layout": arch_layout,
            "d_model": list(widths),
            "d_intermediate": [48] * num,
            "vocab_size": vocab_size,
            "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 64},
            "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [8] * num, "window_size": list(windows), **more},
            "tie_embeddings": tie_embeddings,
            **extensions,
        }
    )


@torch.no_grad()
def enliven(module: nn.Module) -> None:
    """Weights under which all parts contribute and the router uses its whole range."""
    for name, parameter in module.named_parameters():
        if "routing" in name:
            # Cosines of vectors in three dimensions spread evenly from -1 to 1.
            parameter.copy_(torch.eye(len(parameter), 3) @ torch.randn(3, len(parameter)))
        elif name.endswith(("conv.weight", "A_log", "dt_bias")):
            continue
        elif parameter.dim() == 2:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
        elif name.endswith(("norm.weight", "D")):
            parameter.uniform_(0.5, 1.5)
        else:  # biases and pad vectors
            parameter.normal_(std=0.5)


class Subject(ABC):
    """Something with `forward(x, seqs, state)`, and the rows x to try it on."""

    atol: float

    def __init__(self, label: str):
        self.label = label

    def __str__(self) -> str:
        return self.label

    @cached_property
    @abstractmethod
    def module(self) -> Any: ...

    @abstractmethod
    def draw(self, lengths: Sequence[int]) -> Tensor:
        """Packed rows of sequences of these lengths."""

    @abstractmethod
    def run(self, x: Tensor, seqs: Sequences, state: State | None = None) -> tuple[Tensor, Any]:
        """The output and the state; the given state is consumed."""

    @abstractmethod
    def run_from_vectors(self, x: Tensor, seqs: Sequences, state: State | None = None) -> tuple[Tensor, Tensor]:
        """The output, and the real vectors that went in, to differentiate it by."""

    def new_state(self, num_sequences: int) -> State:
        return self.module.new_state(num_sequences)

    @torch.no_grad()
    def alone(self, x: Tensor) -> Tensor:
        """The output of one sequence without a state."""
        return self.run(x, Sequences.from_lengths([len(x)]))[0]

    @torch.no_grad()
    def after(self, x: Tensor, seqs: Sequences) -> Any:
        """The state after these sequences."""
        return self.run(x, seqs, self.new_state(seqs.num_sequences))[1]


class ModuleSubject(Subject):
    """A part of a model over real vectors, in float64."""

    atol = 1e-9

    def __init__(self, label: str, config: HNetConfig, part: Callable[[HNetLM], nn.Module]):
        super().__init__(label)
        self.config = config
        self.part = part

    @cached_property
    def module(self) -> Any:
        return self.part(lively(self.config)).double()

    def draw(self, lengths: Sequence[int]) -> Tensor:
        return torch.randn(sum(lengths), self.config.stages[0].d_model, dtype=torch.float64)

    def run(self, x: Tensor, seqs: Sequences, state: State | None = None) -> tuple[Tensor, Any]:
        y, state, *_ = self.module(x, seqs, state)
        return y, state

    def run_from_vectors(self, x: Tensor, seqs: Sequences, state: State | None = None) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        return self.run(x, seqs, state)[0], x


class ModelSubject(Subject):
    """A whole model over bytes, in float32."""

    atol = 2e-5

    def __init__(self, label: str, config: HNetConfig):
        super().__init__(label)
        self.config = config

    @cached_property
    def module(self) -> HNetLM:
        return lively(self.config)

    @cached_property
    def exact(self) -> "ExactModelSubject":
        return ExactModelSubject(self.label, self.config)

    @torch.no_grad()
    def draw(self, lengths: Sequence[int]) -> Tensor:
        """Random bytes, drawn anew until every stage decides about each of them with a margin."""
        seqs = Sequences.from_lengths(lengths)
        while True:
            ids = torch.randint(254, (sum(lengths),))
            if decides_with_margin(self.exact.module, ids, seqs):
                return ids

    def run(self, x: Tensor, seqs: Sequences, state: State | None = None) -> tuple[Tensor, Any]:
        out = self.module(x, seqs, state)
        return out.logits, out.state

    def run_from_vectors(self, x: Tensor, seqs: Sequences, state: State | None = None) -> tuple[Tensor, Tensor]:
        vectors: list[Tensor] = []
        hook = self.module.embedding.register_forward_hook(lambda _, __, embedded: vectors.append(embedded))
        y, _ = self.run(x, seqs, state)
        hook.remove()
        return y, vectors[0]


class ExactModelSubject(ModelSubject):
    """A whole model over any bytes, in float64: a decision so close to 0.5 that rounding turns it does not come up."""

    atol = 1e-9

    @cached_property
    def module(self) -> HNetLM:
        return lively(self.config).double()

    def draw(self, lengths: Sequence[int]) -> Tensor:
        return torch.randint(254, (sum(lengths),))


def lively(config: HNetConfig) -> HNetLM:
    """The same model at every call, whatever was drawn before, and without a trace in what is drawn after."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HNetLM(config)
        enliven(model)
    return model


def _mixer(model: HNetLM) -> nn.Module:
    assert isinstance(model.network, Isotropic)
    return model.network.get_submodule("blocks.0.mixer")


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    **{"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
GROUPED: dict[str, Any] = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 12, "rotary_emb_dim": 12}
QWEN = GROUPED | {"rotary_base": 500.0, "rotary_scaling": LLAMA3, "qkv_bias": True, "qk_norm": "head"}
OLMO = GROUPED | {"rotary_scaling": YARN, "qk_norm": "all", "global_blocks": [1], "unrotated_blocks": [2]}
"""Attention as the Transformers of others have it."""

MODULES: tuple[Subject, ...] = (
    ModuleSubject("mamba2", config_of(["m1"], [32], [-1]), _mixer),
    *(ModuleSubject(f"attention window {w}", config_of(["t1"], [32], [w]), _mixer) for w in (-1, 0, 3)),
    *(ModuleSubject(f"grouped attention {w}", config_of(["t1"], [32], [w], attention=QWEN), _mixer) for w in (-1, 3)),
    ModuleSubject("isotropic m1T1t1M1", config_of(["m1T1t1M1"], [32], [5]), lambda model: model.network),
    ModuleSubject(
        "stage m1 T1 t1 widening", config_of(["m1", ["T1"], "t1"], [32, 48], [5, 3]), lambda model: model.network
    ),
    ModuleSubject(
        "stages M1 t1 m1 T1 m1, equal widths",
        config_of(["M1", ["t1", ["m1"], "T1"], "m1"], [32, 32, 32], [7, -1, -1]),
        lambda model: model.network,
    ),
    ModuleSubject(
        "stages t1 m1, smoothed bytes, a weight, no residual",
        config_of(
            ["t1", ["m1", ["m1"], "m1"], "m1"],
            [32, 32, 32],
            [7, -1, -1],
            chunkers=[{"name": "dynamic", "threshold": 0.4}, {"name": "dynamic"}],
            chunking=[{"smoothing": "bytes", "confidence": "weight", "residual": "none"}, {"smoothing": "bytes"}],
        ),
        lambda model: model.network,
    ),
)

MODELS: tuple[ModelSubject, ...] = (
    ModelSubject("0 stages m1t1M1T1", config_of(["m1t1M1T1"], [32], [9])),
    ModelSubject("0 stages grouped attention", config_of(["T2"], [32], [-1], attention=QWEN, norm_eps=[1e-3])),
    ModelSubject(
        "0 stages norms after",
        config_of(["T2t1M1"], [32], [5], attention=OLMO, norms_after=[True], tie_embeddings=True),
    ),
    ModelSubject("0 stages tied", config_of(["T1m1"], [32], [-1], tie_embeddings=True)),
    ModelSubject("1 stage widening", config_of(["m1t1", ["T1"], "M1"], [32, 64], [5, -1])),
    ModelSubject("1 stage tied, equal widths", config_of(["T1", ["m1"], "t1"], [32, 32], [7, 3], tie_embeddings=True)),
    *(
        ModelSubject(
            f"2 stages all {letter}", config_of([stack, [stack, [stack], stack], stack], [32, 32, 64], [6, 4, 2])
        )
        for letter, stack in (("m", "m1"), ("M", "M1"), ("t", "t1"), ("T", "T1"))
    ),
    ModelSubject("2 stages m/T/t", config_of(["m1", ["T1m1", ["T1t1"], "m1"], "t1"], [32, 64, 64], [15, 7, -1])),
    ModelSubject(
        "3 stages", config_of(["t1", ["m1", ["T1", ["M1t1"], "m1"], "t1"], "m1"], [32, 32, 64, 64], [-1, 5, 3, -1])
    ),
    ModelSubject(
        "1 stage n-grams",
        config_of(["t1", ["t1"], "t1"], [32, 32], [7, -1], ngrams={"sizes": [2, 3, 5], "num_rows": 64}),
    ),
    ModelSubject(
        "1 stage, no smoothing, no weight, identity",
        config_of(
            ["m1", ["t1"], "m1"],
            [32, 48],
            [-1, -1],
            chunking=[{"smoothing": "none", "confidence": "none", "residual": "identity"}],
        ),
    ),
)

EVERYTHING: tuple[Subject, ...] = MODULES + MODELS

EXACT_MODELS = tuple(subject.exact for subject in MODELS)
