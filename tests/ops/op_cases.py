"""Every op that carries state, described once: its inputs, its state, and how it is called.

The tests of this folder then run over all of them, on all backends found in the ops' folders (`op_runs`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hnet_lm import ops
from hnet_lm.ops import (
    AttentionLayer,
    AttentionShape,
    AttentionWeights,
    KVState,
    LinearWeight,
    Mamba2Layer,
    Mamba2State,
    Mamba2Weights,
    MLPLayer,
    PreNorm,
    RoundedWeight,
)
from hnet_lm.sequences import Sequences

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class OpCase:
    """An op with fixed options, as a function of named tensors."""

    label: str
    name: str
    per_position: Callable[[int], Tensors]
    """Inputs with one row a position."""
    apply: Callable[[Tensors, Sequences, Any, str], tuple[Tensor, Any]]
    """Output and final state for all inputs, sequences, the state and a backend."""
    new_state: Callable[[int], Tensors]
    """A state of so many slots, as tensors to differentiate."""
    as_state: Callable[[Tensors], Any]
    """Those tensors as the op takes them."""
    as_tensors: Callable[[Any], Tensors]
    """What a state says, whatever its layout."""
    shared: Callable[[], Tensors] = dict
    """Inputs that all positions share."""
    wide: frozenset[str] = frozenset()
    """Inputs that the model keeps in float32 under bfloat16 autocast."""
    float32_atol: float = 1e-5
    bfloat16_atol: float = 2e-2

    def inputs(self, num_positions: int) -> Tensors:
        return self.per_position(num_positions) | self.shared()

    def of_rows(self, inputs: Mapping[str, Tensor], rows: Any) -> Tensors:
        """The inputs with only these positions, in this order."""
        shared = self.shared().keys()
        return {key: value if key in shared else value[rows] for key, value in inputs.items()}

    def __str__(self) -> str:
        return self.label


def _uniform(low: float, high: float, *shape: int) -> Tensor:
    return torch.empty(*shape).uniform_(low, high)


def ema_case(low: float = 0.05, high: float = 0.95, d: int = 3) -> OpCase:
    return OpCase(
        f"ema_scan p {low:g}..{high:g}",
        "ema_scan",
        per_position=lambda t: {"x": torch.randn(t, d), "p": _uniform(low, high, t)},
        apply=lambda x, seqs, state, backend: ops.ema_scan(**x, seqs=seqs, state=state, backend=backend),
        new_state=lambda s: {"z": torch.randn(s, d)},
        as_state=lambda tensors: tensors["z"],
        as_tensors=lambda z: {"z": z},
        wide=frozenset({"x", "p"}),
    )


def ssd_case(low: float = 1e-3, high: float = 0.5, h: int = 2, p: int = 3, n: int = 4) -> OpCase:
    return OpCase(
        f"ssd dt {low:g}..{high:g}",
        "ssd",
        per_position=lambda t: {
            "x": torch.randn(t, h, p),
            "dt": _uniform(low, high, t, h),
            "B": torch.randn(t, n),
            "C": torch.randn(t, n),
        },
        apply=lambda x, seqs, state, backend: ops.ssd(**x, seqs=seqs, state=state, backend=backend),
        new_state=lambda s: {"h": torch.randn(s, n, h, p)},
        as_state=lambda tensors: tensors["h"],
        as_tensors=lambda h: {"h": h},
        shared=lambda: {"A": -_uniform(1, 16, h), "D": torch.randn(h)},
        wide=frozenset({"dt", "A", "D"}),
        float32_atol=5e-5,  # the gradient to A sums terms of either sign over all positions
    )


def conv_case(width: int = 4, d: int = 3) -> OpCase:
    return OpCase(
        f"causal_conv width {width}",
        "causal_conv",
        per_position=lambda t: {"x": torch.randn(t, d)},
        apply=lambda x, seqs, state, backend: ops.causal_conv(**x, seqs=seqs, state=state, backend=backend),
        new_state=lambda s: {"past": torch.randn(s, width - 1, d)},
        as_state=lambda tensors: tensors["past"],
        as_tensors=lambda past: {"past": past},
        shared=lambda: {"weight": torch.randn(d, width), "bias": torch.randn(d)},
        wide=frozenset({"weight", "bias"}),
    )


def attention_case(window: int, h: int = 2, p: int = 4, entries: int = 40) -> OpCase:
    return OpCase(
        f"attention window {window}",
        "attention",
        per_position=lambda t: {key: torch.randn(t, h, p) for key in "qkv"},
        apply=lambda x, seqs, state, backend: ops.attention(
            **x, window=window, seqs=seqs, state=state, backend=backend
        ),
        **_kv_states(window, h, p, entries),
    )


def self_attention_case(
    window: int, rotary: int = 4, h: int = 2, p: int = 6, *, normed: bool = False, is_int8: bool = False
) -> OpCase:
    d = h * p

    def apply(x: Tensors, seqs: Sequences, state: Any, backend: str) -> tuple[Tensor, Any]:
        return ops.self_attention(
            x["x"],
            _attention_weights(x, is_int8),
            AttentionShape(h, rotary, window),
            seqs,
            state,
            pre_norm=_pre_norm(x),
            backend=backend,
        )

    return OpCase(
        f"self_attention window {window}, rotary {rotary}, {_options(h * p, normed, is_int8)}",
        "self_attention",
        per_position=lambda t: {"x": torch.randn(t, d)},
        apply=apply,
        shared=lambda: {"qkv_proj": _matrix(3 * d, d), "out_proj": _matrix(d, d)} | _pre_norm_weight(d, normed),
        wide=frozenset({"pre_norm"}),
        **_kv_states(window, h, p),
    )


def _kv_states(window: int, h: int, p: int, entries: int = 40) -> dict[str, Any]:
    """What an OpCase says of KV states: so many entries, or a window's."""
    entries = entries if window < 0 else min(entries, window + 1)

    def as_state(tensors: Tensors) -> KVState:
        """Slots that have seen nothing, some, and more than a window; entries never written to hold noise."""
        is_ring = entries == window + 1
        seen = torch.arange(len(tensors["keys"])) * 5
        return KVState(tensors["keys"], tensors["values"], seen * 3 if is_ring else seen % (entries + 1))

    return {
        "new_state": lambda s: {key: torch.randn(s, entries, h, p) for key in ("keys", "values")},
        "as_state": as_state,
        "as_tensors": lambda state: contents(state, window),
    }


def contents(state: KVState, window: int) -> Tensors:
    """What a KV state holds, slot after slot and oldest first, whatever its capacity and layout."""
    rows = []
    for slot, seen in enumerate(state.num_seen.tolist()):
        held = seen if window < 0 else min(seen, window + 1)
        rows += [(slot, position if window < 0 else position % (window + 1)) for position in range(seen - held, seen)]
    slots, entries = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).T
    return {"keys": state.keys[slots, entries], "values": state.values[slots, entries], "num_seen": state.num_seen}


GATE_OPEN = 2.0
"""Added to the gate, so that a norm over a few numbers, all of them small, does not magnify what was rounded before.

For the same reason the bias of the convolution and D are positive.
"""


def mamba2_case(
    h: int = 4,
    p: int = 8,
    n: int = 4,
    width: int = 4,
    d_model: int = 8,
    *,
    normed: bool = False,
    is_int8: bool = False,
) -> OpCase:
    d, d_conv = h * p, h * p + 2 * n

    def weights() -> Tensors:
        in_proj = _matrix(d + d_conv + h, d_model)
        in_proj[:d, 0] += GATE_OPEN  # times the first entry of u, which is 1
        return {
            "in_proj": in_proj,
            "conv": _uniform(-1, 1, d_conv, 1, width) / width**0.5,
            "conv_bias": _uniform(0.5, 1.5, d_conv),
            "dt_bias": _uniform(-6, -2, h),  # this and the next two: where the model begins
            "A_log": _uniform(0, 2.7, h),
            "D": _uniform(0.5, 1.5, h),
            "norm": torch.randn(d),
            "out_proj": _matrix(d_model, d),
        }

    def apply(x: Tensors, seqs: Sequences, state: Any, backend: str) -> tuple[Tensor, Any]:
        weights = _mamba2_weights(x, is_int8)
        return ops.mamba2(x["u"], weights, 1e-5, seqs, state, pre_norm=_pre_norm(x), backend=backend)

    return OpCase(
        f"mamba2 n {n}, {width} taps, {_options(d_model, normed, is_int8)}",
        "mamba2",
        per_position=lambda t: {"u": torch.cat([torch.ones(t, 1), torch.randn(t, d_model - 1)], 1)},
        apply=apply,
        new_state=lambda s: {"conv_state": torch.randn(s, width - 1, d_conv), "ssm_state": torch.randn(s, n, h, p)},
        as_state=lambda tensors: Mamba2State(tensors["conv_state"], tensors["ssm_state"]),
        as_tensors=lambda state: {"conv_state": state.conv, "ssm_state": state.ssm},
        shared=lambda: weights() | _pre_norm_weight(d_model, normed),
        wide=frozenset({*Mamba2Weights._fields, "pre_norm"}) - {"in_proj", "out_proj"},
        float32_atol=1e-4,  # a norm behind a scan; the gradient to A_log sums over all positions
        bfloat16_atol=6e-2,  # three ops, each of which rounds, and two products
    )


def boundary_prob_case(d: int = 5, *, is_int8: bool = False) -> OpCase:
    def apply(x: Tensors, seqs: Sequences, state: Any, backend: str) -> tuple[Tensor, Any]:
        projections = (_weight(x["q_proj"], is_int8), _weight(x["k_proj"], is_int8))
        states = (None, None) if state is None else state
        p, *states = ops.boundary_prob(x["x"], *projections, seqs, *states, backend=backend)
        return p[:, None], None if state is None else tuple(states)

    return OpCase(
        f"boundary_prob {_options(d, False, is_int8)}",
        "boundary_prob",
        per_position=lambda t: {"x": torch.randn(t, d)},
        apply=apply,
        new_state=lambda s: {"last": torch.randn(s, d)},
        as_state=lambda tensors: (tensors["last"], torch.arange(len(tensors["last"])) % 3 > 0),
        as_tensors=lambda state: {"last": state[0], "has_seen": state[1].long()},
        shared=lambda: {"q_proj": _matrix(d, d), "k_proj": _matrix(d, d)},
    )


def residual_layers_case(window: int, f: int = 10, *, is_normed: bool = False) -> OpCase:
    """A Mamba-2 mixer, an MLP, attention, and an MLP."""
    mixers = {"mamba2": mamba2_case(normed=True), "attention": self_attention_case(window, p=4, normed=True)}
    shape, d = AttentionShape(num_heads=2, rotary_emb_dim=4, window=window), 8

    def joined(parts: Callable[[str, OpCase], Tensors]) -> Tensors:
        return {f"{key} {name}": value for key, case in mixers.items() for name, value in parts(key, case).items()}

    def own(key: str, tensors: Tensors) -> Tensors:
        return {name.removeprefix(f"{key} "): value for name, value in tensors.items() if name.startswith(f"{key} ")}

    def mlp(key: str) -> Tensors:
        weights = {"fc1": _matrix(2 * f, d), "fc2": _matrix(d, f)} | _pre_norm_weight(d, True)
        return {f"{key} {name}": value for name, value in weights.items()}

    def apply(x: Tensors, seqs: Sequences, state: Any, backend: str) -> tuple[Tensor, Any]:
        of = {key: own(key, x) for key in (*mixers, "mlp 1", "mlp 2")}
        norms = {key: PreNorm(named["pre_norm"], 1e-5) for key, named in of.items()}
        mlps = [MLPLayer(norms[key], of[key]["fc1"], of[key]["fc2"]) for key in ("mlp 1", "mlp 2")]
        layers = [
            (Mamba2Layer(norms["mamba2"], _mamba2_weights(of["mamba2"]), 1e-5), state and state[0]),
            (mlps[0], None),
            (AttentionLayer(norms["attention"], _attention_weights(of["attention"]), shape), state and state[1]),
            (mlps[1], None),
        ]
        norm = PreNorm(x["norm"], 1e-5) if is_normed else None
        y, states = ops.residual_layers(x["x"], layers, seqs, norm, backend=backend)
        return y, state and (states[0], states[2])

    return OpCase(
        f"residual_layers window {window}" + ", normed" * is_normed,
        "residual_layers",
        per_position=lambda t: {"x": torch.cat([torch.ones(t, 1), torch.randn(t, d - 1)], 1)},
        apply=apply,
        new_state=lambda s: joined(lambda _, case: case.new_state(s)),
        as_state=lambda tensors: tuple(case.as_state(own(key, tensors)) for key, case in mixers.items()),
        as_tensors=lambda state: joined(lambda key, case: case.as_tensors(state[list(mixers).index(key)])),
        shared=lambda: (
            joined(lambda _, case: case.shared())
            | mlp("mlp 1")
            | mlp("mlp 2")
            | ({"norm": _uniform(0.5, 1.5, d)} if is_normed else {})
        ),
        wide=frozenset({"x", "norm", "mlp 1 pre_norm", "mlp 2 pre_norm"})
        | {f"{key} {name}" for key, case in mixers.items() for name in case.wide},
        float32_atol=2e-4,
        bfloat16_atol=1e-1,
    )


def _mamba2_weights(x: Tensors, is_int8: bool = False) -> Mamba2Weights:
    weights = Mamba2Weights(**{key: x[key] for key in Mamba2Weights._fields})
    return weights._replace(in_proj=_weight(x["in_proj"], is_int8), out_proj=_weight(x["out_proj"], is_int8))


def _attention_weights(x: Tensors, is_int8: bool = False) -> AttentionWeights:
    return AttentionWeights(_weight(x["qkv_proj"], is_int8), _weight(x["out_proj"], is_int8))


def _matrix(d_out: int, d_in: int) -> Tensor:
    """Of a map that keeps the size of what it maps."""
    return torch.randn(d_out, d_in) / d_in**0.5


def _weight(matrix: Tensor, is_int8: bool) -> LinearWeight:
    return nearest_int8(matrix) if is_int8 else matrix


def nearest_int8(matrix: Tensor) -> RoundedWeight:
    """8-bit weights close to these; scales are powers of 2, so that the integers are the same for every type."""
    scale = 2.0 ** -(5 + torch.arange(len(matrix)) % 3).to(matrix.dtype)
    return RoundedWeight((matrix / scale[:, None]).round().clamp(-128, 127).to(torch.int8), scale)


def _pre_norm_weight(d: int, normed: bool) -> Tensors:
    return {"pre_norm": _uniform(0.5, 1.5, d)} if normed else {}


def _pre_norm(x: Tensors) -> PreNorm | None:
    return PreNorm(x["pre_norm"], 1e-5) if "pre_norm" in x else None


def _options(d: int, normed: bool, is_int8: bool) -> str:
    return f"width {d}" + ", normed" * normed + ", int8" * is_int8


CASES = (
    ema_case(),
    mamba2_case(),
    mamba2_case(n=3, width=1, normed=True),
    ssd_case(),
    conv_case(4),
    conv_case(1),
    *(attention_case(window) for window in (-1, 0, 1, 7, 300)),
    self_attention_case(-1),
    self_attention_case(0, rotary=0),
    self_attention_case(7, p=4, normed=True),
    residual_layers_case(-1),
    residual_layers_case(7, is_normed=True),
    boundary_prob_case(),
)
