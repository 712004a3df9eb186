"""The calls that hold a part to its laws: the built-in parts pass them, and a part that breaks one is named with it."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from hnet_lm.chunker_config import CHUNKERS, ChunkerConfig, ChunkerSite
from hnet_lm.data import DATA_FORMATS, DataFormat, FileRequest, Part, Position
from hnet_lm.losses import LOSS_TERMS, LossInputs, LossTerm
from hnet_lm.model import Chunker, FixedChunker, Routing
from hnet_lm.model.dynamic_chunking.chunkers import SeenState, positions_of
from hnet_lm.sequences import Sequences
from hnet_lm.testing import check_chunker, check_data_format, check_loss_term, check_op_backend


@pytest.mark.parametrize("name", [name for name in CHUNKERS if name != "oracle"])  # which nobody gives boundaries here
def test_built_in_chunkers(name: str) -> None:
    check_chunker(CHUNKERS.parse({"name": name}, "chunkers"))


@pytest.mark.parametrize(
    "entry",
    [
        *({"name": name, "threshold": 0.3} for name in ("dynamic", "cosine", "linear", "policy")),
        {"name": "policy", "start_ratio": 2.0, "decide": "sample", "seed": 3},
    ],
    ids=str,
)
def test_built_in_chunkers_with_other_decisions(entry: dict[str, Any]) -> None:
    check_chunker(CHUNKERS.parse(entry, "chunkers"))


TERMS: dict[str, dict[str, Any]] = {
    "ratio": {"target_ratios": [3.0, 2.0]},
    "cab": {},
    "early_exit": {},
    "entropy": {"target_ratio": 3.0},
    "hinge": {"target_ratio": 3.0, "stage": 1},
    "policy": {"gamma": 0.9},
    "rate_control": {"target_ratio": 3.0},
    "target_rate": {"target_ratio": 3.0},
}
TAUGHT = ("teacher_bytes", "teacher_embeddings", "token_boundaries")
"""They need a teacher, which tests/distillation has."""


@pytest.mark.parametrize("name", [name for name in LOSS_TERMS if name not in TAUGHT])
def test_built_in_loss_terms(name: str) -> None:
    check_loss_term(LOSS_TERMS.parse({"name": name, **TERMS[name]}, "loss.terms"))


FILES = {
    "jsonl": "".join(json.dumps({"text": text}) + "\n" for text in ("one", "two", "three")),
    "fasta": ">a\nACGT\n>b\nTTNNNNGA\nAC\n>c\nGG\n",
}
DOCUMENTS = {"jsonl": [b"one", b"two", b"three"], "fasta": [b"ACGT", b"TT", b"GAAC", b"GG"]}


@pytest.mark.parametrize("name", FILES)
def test_built_in_formats(name: str, folder: Path) -> None:
    (folder / "a").write_text(FILES[name])
    check_data_format(DATA_FORMATS.parse({"name": name}, "format"), folder / "a", DOCUMENTS[name])


@pytest.mark.parametrize(
    ("op", "backend", "dtype"),
    [
        ("ema_scan", "eager", torch.float64),
        ("boundary_prob", "eager", torch.float32),
        ("rms_norm", "cpu", torch.float32),
        ("rotary", "eager", torch.float64),
        ("swiglu", "eager", torch.float64),
        ("select_chunks", "eager", torch.float64),
    ],
)
def test_built_in_backends(op: str, backend: str, dtype: torch.dtype) -> None:
    check_op_backend(op, backend, dtype=dtype)


class EveryThird(FixedChunker):
    """The rule that keeps the laws; those below break one each."""

    def cut(self, seqs: Sequences, state: Any) -> tuple[Tensor, Any]:
        positions, state = positions_of(seqs, state)
        return positions % 3 == 0, state

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> SeenState:
        return SeenState.new(num_sequences, device)


class LooksAhead(EveryThird):
    def cut(self, seqs: Sequences, state: Any) -> tuple[Tensor, Any]:
        boundaries, state = super().cut(seqs, state)
        return boundaries | (seqs.require_input_ids("it").roll(-1) == ord("e")), state


class Forgets(EveryThird):
    def cut(self, seqs: Sequences, state: Any) -> tuple[Tensor, Any]:
        boundaries, _ = super().cut(seqs, None)
        return boundaries, state


class Leaks(EveryThird):
    """Counts the sequences of a call."""

    def cut(self, seqs: Sequences, state: Any) -> tuple[Tensor, Any]:
        positions, state = positions_of(seqs, state)
        return ((positions + seqs.sequence_ids) % 3 == 0) | (positions == 0), state


class NoFirst(EveryThird):
    def cut(self, seqs: Sequences, state: Any) -> tuple[Tensor, Any]:
        positions, state = positions_of(seqs, state)
        return positions % 3 == 1, state


class CountsEmpty(EveryThird):
    def cut(self, seqs: Sequences, state: Any) -> tuple[Tensor, Any]:
        boundaries, state = super().cut(seqs, state)
        return boundaries, state and SeenState(state.num_seen + 3 * (seqs.lengths == 0))


class SaysItLearns(EveryThird):
    def forward(self, x: Tensor, seqs: Sequences, state: Any = None) -> tuple[Routing, Any]:
        routing, state = super().forward(x, seqs, state)
        return dataclasses.replace(routing, is_learned=True), state


class GradientFromLater(Chunker):
    """The value is causal, the gradient is not."""

    def __init__(self, width: int):
        super().__init__()
        self.to_logit = torch.nn.Linear(width, 1)

    def forward(self, x: Tensor, seqs: Sequences, state: Any = None) -> tuple[Routing, Any]:
        positions, state = positions_of(seqs, state and state.consume())
        p = torch.sigmoid(self.to_logit(x)[:, 0]).masked_fill(positions == 0, 1.0)
        p = p + (p.mean() - p.mean().detach())
        return Routing(p, p > 0.5, seqs), state

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> SeenState:
        return SeenState.new(num_sequences, device)


BROKEN: dict[str, type[Chunker]] = {
    "causal": LooksAhead,
    "split": Forgets,
    "ragged": Leaks,
    "first position": NoFirst,
    "empty": CountsEmpty,
    "is_learned": SaysItLearns,
    "gradient to what comes later": GradientFromLater,
}


@dataclass(frozen=True)
class Broken(ChunkerConfig):
    law: str = ""

    @property
    def learns(self) -> bool:  # type: ignore[override]  # of the one case that does
        return self.law == "gradient to what comes later"

    def build(self, site: ChunkerSite) -> Chunker:
        module = BROKEN.get(self.law, EveryThird)
        return module(site.d_model) if module is GradientFromLater else module()


def test_a_chunker_that_keeps_the_laws() -> None:
    check_chunker(Broken())


@pytest.mark.parametrize("law", BROKEN)
def test_a_chunker_that_breaks_a_law(law: str) -> None:
    expected = {"causal": "split|causal|ragged"}.get(law, law)
    with pytest.raises(AssertionError, match=expected):
        check_chunker(Broken(law))


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.square().mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad.expand(ctx.saved_tensors[0].shape if ctx.saved_tensors else (24,)) / 24


@dataclass(frozen=True)
class BrokenTerm(LossTerm):
    kind: str = ""

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        p = inputs.routings[0].boundary_prob
        match self.kind:
            case "mean":
                return {"loss/sum": p.square().sum()}
            case "gradient":
                return {"loss/wrong": WrongGradient.apply(p)}  # type: ignore[dict-item]
            case "not finite":
                return {"loss/infinite": p.square().mean() / 0}
            case "must be like loss/NAME":
                return {"lr": p.mean()}
            case "must be one number":
                return {"loss/p": p}
        return {"loss/square": p.square().mean(), "loss/hidden": inputs.hidden.pow(4).mean()}


def test_a_term_that_keeps_the_laws() -> None:
    check_loss_term(BrokenTerm())


@pytest.mark.parametrize("law", ["mean", "gradient", "not finite", "must be like loss/NAME", "must be one number"])
def test_a_term_that_breaks_a_law(law: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=law):
        check_loss_term(BrokenTerm(law))


@dataclass(frozen=True)
class Lines(DataFormat):
    """A document per line; `fault` is what is wrong with it."""

    fault: str = ""

    def read(self, request: FileRequest, position: Position | None) -> Iterator[Part]:
        first = position["line"] if position else 0
        for number, line in enumerate(Path(request.path).read_bytes().splitlines()):
            wanted = request.wants(number) or self.fault == "streams"
            if self.fault == "damage" and line and not line.endswith(b"."):
                raise KeyError(number)
            if number >= first and wanted and line:
                resume = {"line": number if self.fault == "resume" else number + 1}
                data = line.upper() if self.fault == "documents" else line
                yield Part(data, number, 1 if self.fault == "starts a document" else 0, True, True, resume)


@pytest.mark.parametrize("fault", ["", "streams", "damage", "resume", "documents", "starts a document"])
def test_a_format_that_breaks_a_law(fault: str, folder: Path) -> None:
    (folder / "lines").write_bytes(b"one.\ntwo.\n\nthree.\n")
    documents = [b"one.", b"two.", b"three."]
    if not fault:
        check_data_format(Lines(), folder / "lines", documents)
        return
    with pytest.raises(AssertionError, match=fault):
        check_data_format(Lines(fault), folder / "lines", documents)


def test_a_backend_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("wrong_ops")
    module.swiglu = lambda y, gate: torch.nn.functional.silu(gate) * y * 1.001  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wrong_ops", module)
    with pytest.raises(AssertionError, match=r"swiglu|y: "):
        check_op_backend("swiglu", "wrong_ops")
    with pytest.raises(ValueError, match="op rotary has no backend 'wrong_ops'"):
        check_op_backend("rotary", "wrong_ops")
