"""Every op that carries state, described once: its inputs, its state, and how it is called.

The tests of this folder then run over all ops and all backends found in the ops' folders; a new backend file is tested
without a word here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from hnet_lm import ops
from hnet_lm.ops import KVState
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

Tensors = dict[str, Tensor]

RAGGED = (64, 0, 1, 200, 63, 65, 0, 127, 128)
NUM_SLOTS = 12
SLOTS = (7, 3, 11, 0, 2, 10, 5, 1, 8)
"""The slots that the sequences of RAGGED own: permuted, and three of the twelve belong to nobody."""


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
    entries = entries if window < 0 else min(entries, window + 1)

    def as_state(tensors: Tensors) -> KVState:
        """Slots that have seen nothing, some, and more than a window; entries never written to hold noise."""
        is_ring = entries == window + 1
        seen = torch.arange(len(tensors["keys"])) * 5
        return KVState(tensors["keys"], tensors["values"], seen * 3 if is_ring else seen % (entries + 1))

    return OpCase(
        f"attention window {window}",
        "attention",
        per_position=lambda t: {key: torch.randn(t, h, p) for key in "qkv"},
        apply=lambda x, seqs, state, backend: ops.attention(
            **x, window=window, seqs=seqs, state=state, backend=backend
        ),
        new_state=lambda s: {key: torch.randn(s, entries, h, p) for key in ("keys", "values")},
        as_state=as_state,
        as_tensors=lambda state: contents(state, window),
    )


def contents(state: KVState, window: int) -> Tensors:
    """What a KV state holds, slot after slot and oldest first, whatever its capacity and layout."""
    rows = []
    for slot, seen in enumerate(state.num_seen.tolist()):
        held = seen if window < 0 else min(seen, window + 1)
        rows += [(slot, position if window < 0 else position % (window + 1)) for position in range(seen - held, seen)]
    slots, entries = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).T
    return {"keys": state.keys[slots, entries], "values": state.values[slots, entries], "num_seen": state.num_seen}


GATE_OPEN = 2.0
"""Added to the gate, so that a norm over a few numbers, all of them small, does not magnify what was rounded before."""


def mamba2_case(h: int = 2, p: int = 3, n: int = 4, width: int = 4) -> OpCase:
    d, d_conv = h * p, h * p + 2 * n
    shared = {
        "conv_weight": (d_conv, width),
        "conv_bias": (d_conv,),
        "dt_bias": (h,),
        "A_log": (h,),
        "D": (h,),
        "norm_weight": (d,),
    }

    def apply(x: Tensors, seqs: Sequences, state: Any, backend: str) -> tuple[Tensor, Any]:
        y, *states = ops.mamba2_inner(
            *x.values(),
            eps=1e-5,
            seqs=seqs,
            conv_state=state and state[0],
            ssm_state=state and state[1],
            backend=backend,
        )
        return y, None if state is None else tuple(states)

    return OpCase(
        f"mamba2_inner n {n}",
        "mamba2_inner",
        per_position=lambda t: {
            "zxBCdt": torch.randn(t, d + d_conv + h) + GATE_OPEN * (torch.arange(d + d_conv + h) < d)
        },
        apply=apply,
        new_state=lambda s: {"conv": torch.randn(s, width - 1, d_conv), "ssm": torch.randn(s, n, h, p)},
        as_state=lambda tensors: (tensors["conv"], tensors["ssm"]),
        as_tensors=lambda state: dict(zip(("conv", "ssm"), state, strict=True)),
        shared=lambda: (
            {key: torch.randn(*shape) for key, shape in shared.items()}
            | {"dt_bias": _uniform(-6, -2, h), "A_log": _uniform(0, 2.7, h)}
        ),  # where the model begins
        wide=frozenset(shared),
        float32_atol=1e-4,  # a norm behind a scan; the gradient to A_log sums over all positions
        bfloat16_atol=5e-2,  # three ops, each of which rounds
    )


CASES = (
    ema_case(),
    mamba2_case(),
    mamba2_case(n=3, width=1),
    ssd_case(),
    conv_case(4),
    conv_case(1),
    *(attention_case(window) for window in (-1, 0, 1, 7, 300)),
)


def backends(name: str) -> list[str]:
    """Every backend file in the op's folder."""
    return Op(f"hnet_lm.ops.{name}").available()


def with_backends(cases: Iterable[OpCase], *, except_for: str = "") -> pytest.MarkDecorator:
    """Each case with each backend of its op, as the arguments `case` and `backend`."""
    pairs = [(case, backend) for case in cases for backend in backends(case.name) if backend != except_for]
    return pytest.mark.parametrize(("case", "backend"), pairs, ids=str)


def require_backend(name: str, backend: str) -> None:
    """Skip where what a backend builds upon is not installed."""
    try:
        Op(f"hnet_lm.ops.{name}").backend(backend, torch.device("cpu"))
    except ImportError as error:
        pytest.skip(str(error))


def ragged(slotted: bool) -> Sequences:
    return Sequences.from_lengths(RAGGED, torch.tensor(SLOTS) if slotted else None)


def run(
    case: OpCase,
    backend: str,
    inputs: Tensors,
    seqs: Sequences,
    state: Tensors | None,
    into: Callable[[str, Tensor], Tensor] = lambda _, value: value,
    autocast: bool = False,
) -> Tensors:
    """Output, final state, and the gradients to every input and to the initial state, by name.

    `into` turns each input into the type it is run with; `autocast` is bfloat16's, around the forward alone. The
    gradients are those of a fixed random combination.
    """
    leaves = {key: into(key, value).detach().clone().requires_grad_() for key, value in inputs.items()}
    carried = state and {key: into("state", value).detach().clone().requires_grad_() for key, value in state.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, final = case.apply(leaves, seqs, carried and case.as_state(carried), backend)
    tensors = {} if final is None else case.as_tensors(final)
    results = {"y": y} | {f"final {key}": value for key, value in tensors.items()}
    weights = torch.Generator().manual_seed(1)
    total = sum(
        (value.double() * torch.randn(value.shape, generator=weights, dtype=torch.float64)).sum()
        for value in results.values()
        if value.is_floating_point()
    )
    differentiated = leaves | {f"state {key}": value for key, value in (carried or {}).items()}
    grads = torch.autograd.grad(total, list(differentiated.values()), allow_unused=True, materialize_grads=True)
    return {key: value.detach() for key, value in results.items()} | {
        f"grad {key}": grad for key, grad in zip(differentiated, grads, strict=True)
    }


def assert_same(actual: Tensors, expected: Tensors, atol: float) -> None:
    """All results within atol of the expected, relative to the largest entry where that is above 1."""
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        scale = max(1.0, value.abs().max().item()) if value.numel() else 1.0
        torch.testing.assert_close(
            actual[key].double(), value.double(), rtol=0, atol=atol * scale, msg=lambda text, key=key: f"{key}: {text}"
        )
