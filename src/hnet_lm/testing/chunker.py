"""The laws of a chunker: where it cuts depends on what came before alone, however a sequence is cut into calls.

In float64, on a small model: as a module of its own, over random vectors and real bytes, and in a whole model that is
saved, loaded, decoded byte by byte and trained by one gradient.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hnet_lm.checkpoint import load, save
from hnet_lm.chunker_config import CHUNKERS, ChunkerConfig
from hnet_lm.generation.stepper import PlainStepper
from hnet_lm.model import Chunker, HNet, HNetLM, Routing
from hnet_lm.sequences import Sequences
from hnet_lm.state import tensors
from hnet_lm.testing.small import TEXT, WIDTH, small_config, small_model

LENGTHS = (5, 0, 63, 1, 64, 0, 65)
ATOL = 1e-9


def check_chunker(chunker: ChunkerConfig, *, text: bytes = TEXT) -> None:
    """Raises AssertionError, with the law that is broken. `text` is what the outermost stage reads."""
    entry = CHUNKERS.written(chunker)
    assert CHUNKERS.parse(entry, "chunkers") == chunker, f"its entry {entry} does not give the same options back"
    model = small_model(small_config(entry, asks_byte_model=chunker.asks_byte_model))
    assert isinstance(model.network, HNet)
    subject = _Subject(model.network.routing, (text * (1 + 400 // max(1, len(text))))[:400])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.no_grad():
            _check_decisions(subject, chunker)
            _check_split(subject)
            _check_ragged(subject)
            _check_empty_and_slots(subject)
            _check_causal(subject)
        _check_no_gradient_from_later(subject)
        ids = torch.tensor([model.config.bos_id, *subject.text[:60]])
        _check_gradient(model, ids)
        with torch.no_grad():
            logits = model(ids).logits
            _check_saved(model, ids, logits)
            _check_decoding(model, ids, logits)


class _Subject:
    """The module, and positions to try it on: a random vector and a byte each."""

    def __init__(self, module: Chunker, text: bytes):
        self.module = module
        self.text = text

    def draw(self, length: int) -> tuple[Tensor, Tensor]:
        start = int(torch.randint(len(self.text) - length + 1, ()))
        ids = torch.tensor(list(self.text[start : start + length]), dtype=torch.int64)
        return torch.randn(length, WIDTH, dtype=torch.float64), ids

    def route(
        self,
        x: Float[Tensor, "t d"],
        ids: Int[Tensor, " t"],
        lengths: Sequence[int],
        state: Any = None,
        slots: Sequence[int] | None = None,
    ) -> tuple[Routing, Any]:
        owned = None if slots is None else torch.tensor(slots)
        seqs = Sequences.from_lengths(lengths, owned).with_input_ids(ids)
        return self.module(x, seqs.with_boundaries(ids % 5 == 0), state)

    def alone(self, x: Tensor, ids: Tensor) -> Routing:
        return self.route(x, ids, [len(ids)])[0]


def _rows(routing: Routing, begin: int, length: int) -> Routing:
    rows = slice(begin, begin + length)
    return Routing(routing.boundary_prob[rows], routing.is_boundary[rows], routing.seqs)


def _same(law: str, found: Routing, wanted: Routing) -> None:
    assert found.is_boundary.equal(wanted.is_boundary), f"{law}: other boundaries"
    difference = (found.boundary_prob - wanted.boundary_prob).abs().max() if len(found.is_boundary) else 0.0
    assert difference <= ATOL, f"{law}: boundary probabilities differ by {difference:.2g}"


def _check_decisions(subject: _Subject, chunker: ChunkerConfig) -> None:
    x, ids = subject.draw(200)
    routing = subject.alone(x, ids)
    p, b = routing.boundary_prob, routing.is_boundary
    assert p.shape == b.shape == (200,), f"one probability and one decision per position, not {p.shape} and {b.shape}"
    assert b.dtype == torch.bool, f"is_boundary must be bools, not {b.dtype}"
    assert p.is_floating_point(), f"boundary_prob must be floating-point numbers, not {p.dtype}"
    assert ((p >= 0) & (p <= 1)).all(), "boundary_prob must lie in 0 .. 1"
    assert b[0], "the first position of a sequence must be a boundary"
    assert routing.is_learned == chunker.learns, (
        f"Routing.is_learned is {routing.is_learned}, but {type(chunker).__name__}.learns is {chunker.learns}"
    )
    assert bool(list(subject.module.parameters())) or not chunker.learns, "it learns, but has no parameters"


def _check_split(subject: _Subject) -> None:
    """Every cut into two calls, and position by position."""
    x, ids = subject.draw(40)
    whole = subject.alone(x, ids)
    for cut in range(41):
        first, state = subject.route(x[:cut], ids[:cut], [cut], subject.module.new_state(1))
        second, _ = subject.route(x[cut:], ids[cut:], [40 - cut], state)
        _same(f"split: cut after {cut} positions", first, _rows(whole, 0, cut))
        _same(f"split: cut after {cut} positions", second, _rows(whole, cut, 40 - cut))
    state = subject.module.new_state(1)
    for t in range(40):
        one, state = subject.route(x[t : t + 1], ids[t : t + 1], [1], state)
        _same(f"split: position {t} by itself", one, _rows(whole, t, 1))


def _check_ragged(subject: _Subject) -> None:
    parts = [subject.draw(n) for n in LENGTHS]
    x, ids = (torch.cat(column) for column in zip(*parts, strict=True))
    for state in (None, subject.module.new_state(len(LENGTHS))):
        packed, _ = subject.route(x, ids, LENGTHS, state)
        begin = 0
        for i, (length, part) in enumerate(zip(LENGTHS, parts, strict=True)):
            if length:
                _same(f"ragged: sequence {i} of {LENGTHS}", _rows(packed, begin, length), subject.alone(*part))
            begin += length


def _check_empty_and_slots(subject: _Subject) -> None:
    """A sequence of length 0 leaves its state as it is, and states move with their sequences."""
    heads, tails = [subject.draw(9) for _ in range(3)], [subject.draw(7) for _ in range(3)]
    x, ids = (torch.cat(column) for column in zip(*heads, strict=True))
    _, state = subject.route(x, ids, [9, 9, 9], subject.module.new_state(3))
    before = state.select([0, 2])
    _, state = subject.route(*tails[1], [0, 7, 0], state)
    for old, new in zip(tensors(before), tensors(state.select([0, 2])), strict=True):
        assert old.equal(new), "empty: the state of a sequence of length 0 has changed"
    x, ids = (torch.cat([tails[2][column], tails[0][column]]) for column in (0, 1))
    found, _ = subject.route(x, ids, [7, 7], state, slots=[2, 0])
    for i, sequence in enumerate((2, 0)):
        whole = subject.alone(*(torch.cat([heads[sequence][c], tails[sequence][c]]) for c in (0, 1)))
        _same("slots: a sequence that goes on in a slot of its own", _rows(found, 7 * i, 7), _rows(whole, 9, 7))


def _check_causal(subject: _Subject) -> None:
    x, ids = subject.draw(50)
    other_x, other_ids = subject.draw(50)
    for cut in (1, 7, 23, 49):
        changed = subject.alone(torch.cat([x[:cut], other_x[cut:]]), torch.cat([ids[:cut], other_ids[cut:]]))
        wanted = _rows(subject.alone(x, ids), 0, cut)
        _same(f"causal: what comes after {cut} positions has changed", _rows(changed, 0, cut), wanted)


def _check_no_gradient_from_later(subject: _Subject) -> None:
    x, ids = subject.draw(30)
    p = subject.alone(x.requires_grad_(), ids).boundary_prob
    if p.requires_grad:
        (grad,) = torch.autograd.grad(p[:12].square().sum(), x)
        assert grad[12:].eq(0).all(), "causal: a probability has a gradient to what comes later"
        assert grad.isfinite().all(), "its gradient is not finite"


def _check_gradient(model: HNetLM, ids: Tensor) -> None:
    """A whole model learns through it: every parameter that is to be trained gets a finite gradient."""
    out = model(ids)
    steered = out.logits.square().mean() + sum(routing.boundary_prob.mean() for routing in out.routings)
    for routing in out.routings:
        steered = steered + sum(
            x.square().mean() for x in (routing.boundary_logit, routing.early_exit) if x is not None
        )
    steered.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"gradient: {name} gets none"
            assert parameter.grad.isfinite().all(), f"gradient: that of {name} is not finite"
    model.zero_grad()


def _check_saved(model: HNetLM, ids: Tensor, logits: Tensor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model")
        loaded = load(Path(folder) / "model")
    assert loaded.config == model.config, "saved: the loaded model has another configuration"
    assert loaded(ids).logits.equal(logits), "saved: the loaded model gives other logits"


def _check_decoding(model: HNetLM, ids: Tensor, logits: Tensor) -> None:
    stepper = PlainStepper(model, 2, pool_bytes=2**22)
    stream = stepper.admit()
    found = torch.cat([stepper.step([stream], [i]).logits for i in ids.tolist()])
    difference = (found - logits).abs().max()
    assert difference <= ATOL, f"decoding: logits byte by byte differ from the forward's by {difference:.2g}"
