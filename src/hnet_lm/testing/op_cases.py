"""Every op, described once: inputs to try it on, its state, and how it is called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.attention import KVState, attention
from hnet_lm.ops.boundary_prob import boundary_prob
from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.ops.mamba2 import mamba2
from hnet_lm.ops.rms_norm import rms_norm
from hnet_lm.ops.rotary import rotary
from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.ops.ssd import ssd
from hnet_lm.ops.swiglu import swiglu
from hnet_lm.sequences import Sequences

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class OpCase:
    """An op with fixed options, as a function of named tensors."""

    label: str
    name: str
    per_position: Callable[[int], Tensors]
    """Inputs with one row per position."""
    apply: Callable[[Tensors, Sequences, Any, str], tuple[Tensor, Any]]
    """Output and final state for all inputs, sequences, the state and a backend."""
    new_state: Callable[[int], Tensors]
    """A state of this many slots, as tensors to differentiate."""
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


def _indices(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)


def ema_case(low: float = 0.05, high: float = 0.95, d: int = 3) -> OpCase:
    return OpCase(
        f"ema_scan p {low:g}..{high:g}",
        "ema_scan",
        per_position=lambda t: {"x": torch.randn(t, d), "p": _uniform(low, high, t)},
        apply=lambda x, seqs, state, backend: ema_scan(**x, seqs=seqs, state=state, backend=backend),
        new_state=lambda s: {"z": torch.randn(s, d)},
        as_state=lambda tensors: tensors["z"],
        as_tensors=lambda z: {"z": z},
        wide=frozenset({"x", "p"}),
    )


def ssd_case(low: float = 1e-3, high: float = 0.5, h: int = 2, p: int = 64, n: int = 8) -> OpCase:
    return OpCase(
        f"ssd dt {low:g}..{high:g}, h {h}, p {p}, n {n}",
        "ssd",
        per_position=lambda t: {
            "x": torch.randn(t, h, p),
            "dt": _uniform(low, high, t, h),
            "B": torch.randn(t, n),
            "C": torch.randn(t, n),
        },
        apply=lambda x, seqs, state, backend: ssd(**x, seqs=seqs, state=state, backend=backend),
        new_state=lambda s: {"h": torch.randn(s, n, h, p)},
        as_state=lambda tensors: tensors["h"],
        as_tensors=lambda h: {"h": h},
        shared=lambda: {"A": -_uniform(1, 16, h), "D": torch.randn(h)},
        wide=frozenset({"dt", "A", "D"}),
        float32_atol=5e-5,  # the gradient to A sums terms of either sign over all positions
    )


def conv_case(width: int = 4, d: int = 3) -> OpCase:
    return OpCase(
        f"causal_conv width {width}, d {d}",
        "causal_conv",
        per_position=lambda t: {"x": torch.randn(t, d)},
        apply=lambda x, seqs, state, backend: causal_conv(**x, seqs=seqs, state=state, backend=backend),
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
        apply=lambda x, seqs, state, backend: attention(**x, window=window, seqs=seqs, state=state, backend=backend),
        **_kv_states(window, h, p, entries),
    )


def _kv_states(window: int, h: int, p: int, entries: int) -> dict[str, Any]:
    """The fields of an OpCase about KV states: this many entries, or a window's."""
    entries = entries if window < 0 else min(entries, window + 1)

    def as_state(tensors: Tensors) -> KVState:
        """Slots that have seen nothing, some, and more than a window; entries never written to hold noise."""
        is_ring = entries == window + 1
        seen = _indices(tensors["keys"]) * 5
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


def boundary_prob_case(d: int = 5) -> OpCase:
    def apply(x: Tensors, seqs: Sequences, state: Any, backend: str) -> tuple[Tensor, Any]:
        states = (None, None) if state is None else state
        p, *states = boundary_prob(x["q"], x["k"], seqs, *states, backend=backend)
        return p[:, None], None if state is None else tuple(states)

    return OpCase(
        f"boundary_prob width {d}",
        "boundary_prob",
        per_position=lambda t: {"q": torch.randn(t, d), "k": torch.randn(t, d)},
        apply=apply,
        new_state=lambda s: {"last_q": torch.randn(s, d)},
        as_state=lambda tensors: (tensors["last_q"], _indices(tensors["last_q"]) % 3 > 0),
        as_tensors=lambda state: {"last_q": state[0], "has_seen": state[1].long()},
    )


CASES = (
    ema_case(),
    ssd_case(),
    ssd_case(p=3, n=4),
    conv_case(4),
    conv_case(1),
    conv_case(3, d=130),
    *(attention_case(window) for window in (-1, 0, 1, 7, 300)),
    boundary_prob_case(),
)
"""Of the ops that carry state."""


def _stateless(
    label: str,
    per_position: Callable[[int], Tensors],
    y: Callable[[Tensors, Sequences, str], Tensor],
    shared: Callable[[], Tensors] = dict,
    **more: Any,
) -> OpCase:
    return OpCase(
        label,
        label.partition(" ")[0],
        per_position,
        lambda x, seqs, state, backend: (y(x, seqs, backend), None),
        new_state=lambda s: {},
        as_state=lambda tensors: None,
        as_tensors=lambda state: {},
        shared=shared,
        **more,
    )


def _every_third(seqs: Sequences) -> Tensor:
    return seqs.positions % 3 == 0


def mamba2_case(h: int = 2, p: int = 64, n: int = 8, width: int = 4) -> OpCase:
    d, channels = h * p, h * p + 2 * n
    weights = {
        "conv_weight": lambda: torch.randn(channels, width) / 2,
        "conv_bias": lambda: torch.randn(channels),
        "dt_bias": lambda: _uniform(-6, 1, h),
        "A_log": lambda: _uniform(0, 2.7, h),
        "D": lambda: torch.randn(h),
        "norm_weight": lambda: _uniform(0.5, 1.5, d),
    }
    return _stateless(
        f"mamba2 h {h}, p {p}, n {n}",
        lambda t: {"zxbcdt": torch.randn(t, d + channels + h)},
        lambda x, seqs, backend: mamba2(**x, eps=1e-5, seqs=seqs, dtype=None, backend=backend),
        lambda: {name: weight() for name, weight in weights.items()},
        wide=frozenset(weights),
        float32_atol=1e-4,  # the norm divides by the little that some positions' gates let through
    )


STATELESS_CASES = (
    mamba2_case(),
    _stateless(
        "rms_norm",
        lambda t: {"x": torch.randn(t, 6)},
        lambda x, seqs, backend: rms_norm(x["x"], x["weight"], 1e-5, backend=backend),
        lambda: {"weight": _uniform(0.5, 1.5, 6)},
    ),
    _stateless(
        "rms_norm with a gate",
        lambda t: {"x": torch.randn(t, 6), "gate": torch.randn(t, 6)},
        lambda x, seqs, backend: rms_norm(x["x"], x["weight"], 1e-5, x["gate"], backend=backend),
        lambda: {"weight": _uniform(0.5, 1.5, 6)},
    ),
    _stateless(
        "rotary",
        lambda t: {"x": torch.randn(t, 2, 8)},
        lambda x, seqs, backend: rotary(x["x"], seqs.positions, 4, backend=backend),
    ),
    _stateless(
        "swiglu",
        lambda t: {"y": torch.randn(t, 6), "gate": torch.randn(t, 6)},
        lambda x, seqs, backend: swiglu(x["y"], x["gate"], backend=backend),
    ),
    _stateless(
        "select_chunks",
        lambda t: {"x": torch.randn(t, 4)},
        lambda x, seqs, backend: select_chunks(x["x"], _every_third(seqs), seqs, backend=backend)[0],
    ),
)
"""Of those that do not."""
