"""One id of every slot, from the choice of it to the logits of the next, at shapes that depend on nothing.

    id = given, or chosen from the last logits          logits = head(network(embedding(id)))

Every row of every stage is computed, whoever takes part; what takes no part writes nothing:

    takes part within a stage = takes part in it and starts a chunk there
    state = takes part ? new state : state

So nothing is copied to the host, and the same operations may be run one by one (`static`) or captured and replayed
(`cuda`). Modules are the model's own, called with one position of every slot. Only what the data gives a shape is put
together anew: the downsampler, whose chunks are rows here, and the upsampler, whose chunk is the carried one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear

from hnet_lm.generation.stepper.stream_memory import row_tensors
from hnet_lm.model import HNetLM
from hnet_lm.model.dynamic_chunking import Routing, Smoothing, SmoothingState
from hnet_lm.model.hnet import HNet, HNetState
from hnet_lm.model.isotropic import Isotropic, IsotropicState
from hnet_lm.ops.attention import FixedKVState, PagedKVState
from hnet_lm.sequences import Sequences
from hnet_lm.state import State

NOT_FINITE, NOBODY, CHOSEN = -3, -2, -1
"""In the place of an id: it cannot be chosen from such logits; the slot takes no part; its id is to be chosen."""
MOST_CHOSEN = 16
"""Ids of a slot that are kept until somebody reads them."""


@dataclass(frozen=True)
class Rows:
    """A stage: one position of every slot, and which of them are really there."""

    seqs: Sequences
    take_part: Bool[Tensor, " s"]


class FixedStep:
    """The step, and the memory by which it is asked for and answers. `state` is changed in place."""

    def __init__(self, model: HNetLM, state: State, num_slots: int) -> None:
        device, vocab_size, num_stages = model.device, model.config.vocab_size, model.config.num_stages
        wide = torch.promote_types(model.head_weight.dtype, torch.float32)
        self.asked: Int[Tensor, " s"] = torch.full((num_slots,), NOBODY, device=device)
        """Of each slot the id to read, `CHOSEN` or `NOBODY`."""
        self.temperature: Float[Tensor, "s 1"] = torch.zeros(num_slots, 1, dtype=torch.float64, device=device)
        self.uniforms: Float[Tensor, "k s"] = torch.zeros(MOST_CHOSEN, num_slots, dtype=torch.float64, device=device)
        self.allowed: Bool[Tensor, " v"] = torch.ones(vocab_size, dtype=torch.bool, device=device)
        self.num_read: Int[Tensor, " 1"] = torch.zeros(1, dtype=torch.int64, device=device)
        """Steps since somebody set it to 0, up to `MOST_CHOSEN`: the row of `uniforms` and of `read`."""
        self.read: Int[Tensor, "k s"] = torch.zeros(MOST_CHOSEN, num_slots, dtype=torch.int64, device=device)
        self.logits: Float[Tensor, "s v"] = torch.zeros(num_slots, vocab_size, dtype=wide, device=device)
        self.boundary_prob: Float[Tensor, "stages s"] = torch.zeros(num_stages, num_slots, dtype=wide, device=device)
        self.takes_part: Bool[Tensor, "stages s"] = torch.zeros(num_stages, num_slots, dtype=torch.bool, device=device)
        """Who starts a chunk in each stage."""
        self._model = model
        self._state = state
        self._seqs = Sequences.from_lengths([1] * num_slots, device=device).with_input_ids(torch.zeros_like(self.asked))
        self._inner_seqs = Sequences.from_lengths([1] * num_slots, device=device)
        self._inner_seqs.keep_rows(torch.arange(num_slots, device=device))

    def __call__(self, num_entries: Mapping[int, int]) -> None:
        """`num_entries`: how many entries to read of each `PagedKVState` of the state, by its id."""
        model, ids = self._model, self._seqs.require_input_ids("FixedStep")
        take_part = self.asked != NOBODY
        uniform = self.uniforms.index_select(0, self.num_read)[0]
        chosen = choose(self.logits, self.temperature, uniform, self.allowed)
        ids.copy_(torch.where(self.asked >= 0, self.asked, chosen))
        is_sound = (self.asked >= 0) | self.logits.isfinite().all(-1)
        self.read.index_copy_(0, self.num_read, torch.where(is_sound, ids, NOT_FINITE)[None])
        self.num_read.add_(1).remainder_(MOST_CHOSEN)
        x = _Pass(self, num_entries).network(model.network, model.embedding(ids), Rows(self._seqs, take_part))
        logits = linear(x, model.embedding.weight) if model.lm_head is None else model.lm_head(x)
        _keep(self.logits, logits, take_part)


class _Pass:
    """One pass through the network."""

    def __init__(self, step: FixedStep, num_entries: Mapping[int, int]) -> None:
        self._step = step
        self._num_entries = num_entries

    def network(
        self, network: HNet | Isotropic, x: Float[Tensor, "s d"], rows: Rows, state: Any = None, stage: int = 0
    ) -> Float[Tensor, "s d"]:
        """The output of all rows; the state is that of the whole model unless another is given."""
        state = self._step._state if state is None else state
        if isinstance(network, Isotropic):
            return self._stack(network, x, rows, state)
        assert isinstance(state, HNetState)
        x_hat = self._stack(network.encoder, x, rows, state.encoder)
        routing, routing_state = network.routing(x_hat, rows.seqs, _viewed(state.routing))
        _keep_state(state.routing, routing_state, rows.take_part)
        inner_rows = Rows(self._step._inner_seqs, routing.is_boundary & rows.take_part)
        self._step.boundary_prob[stage].copy_(routing.boundary_prob)
        self._step.takes_part[stage].copy_(inner_rows.take_part)
        smoothing, is_before = network.smoothing, network.smoothing.is_before_main_network
        inner = _smoothed(smoothing, x_hat, routing, rows, state.smoothing) if is_before else x_hat
        inner = self.network(
            network.main_network, network.widen(inner), inner_rows, state.main_network, stage + 1
        )  # s d_inner
        z = inner[:, : network.d_model]
        z = z if is_before else _smoothed(smoothing, z, routing, inner_rows, state.smoothing)
        chunk = state.upsampler.chunk
        _keep(chunk, z, inner_rows.take_part)
        y = network.upsampler.weighed(chunk.to(z.dtype), routing) + network.residual_proj(x_hat)
        return self._stack(network.decoder, y, rows, state.decoder)

    def _stack(self, stack: Isotropic, x: Float[Tensor, "s d"], rows: Rows, state: State) -> Float[Tensor, "s d"]:
        blocks = cast(IsotropicState, state).blocks
        y, after = stack(x, rows.seqs, IsotropicState(tuple(self._given(each, rows) for each in blocks)))
        _keep_state(state, after, rows.take_part)
        return y

    def _given(self, state: State, rows: Rows) -> State:
        """The state of a block, to be used up by its call."""
        if not isinstance(state, PagedKVState):
            return _viewed(state)
        known = (state.num_seen, state.table, state.pages, state.num_heads, state.head_dim)
        return FixedKVState(*known, rows.take_part, self._num_entries[id(state)])


def choose(
    logits: Float[Tensor, "s v"],
    temperature: Float[Tensor, "s 1"],
    uniform: Float[Tensor, " s"],
    allowed: Bool[Tensor, " v"],
) -> Int[Tensor, " s"]:
    """The likeliest id of each row, or where there is a temperature the one that its uniform number in [0, 1) draws.

    As `sampling.sample` with no other parameters: by inverse distribution function in the order of ids, in float64.
    """
    logits = logits.double().masked_fill(~allowed, -torch.inf)
    is_greedy = temperature == 0
    # The greatest first goes to 0: a tiny temperature then gives -inf beside it, never inf - inf.
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature.masked_fill(is_greedy, 1.0)
    cumulative = scaled.softmax(-1).cumsum(-1)
    drawn = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1).clamp(max=logits.shape[-1] - 1)
    return torch.where(is_greedy[:, 0], logits.argmax(-1), drawn)


def _smoothed(
    smoothing: Smoothing, x: Float[Tensor, "s d"], routing: Routing, rows: Rows, state: SmoothingState
) -> Float[Tensor, "s d"]:
    z, after = smoothing(x, routing, rows.seqs, _viewed(state))
    _keep_state(state, after, rows.take_part)
    return z


def _viewed(state: State) -> Any:
    """The same memory in new objects, to be used up by a call. Of every slot in order, ops return other memory."""
    return state.map(lambda tensor: tensor)


def _keep_state(owned: State, returned: Any, take_part: Bool[Tensor, " s"]) -> None:
    for old, new in zip(row_tensors(owned), row_tensors(returned), strict=True):
        _keep(old, new, take_part)


def _keep(owned: Tensor, new: Tensor, take_part: Bool[Tensor, " s"]) -> None:
    """In place: the new row where a slot takes part."""
    owned.copy_(torch.where(take_part.view(-1, *[1] * (owned.dim() - 1)), new.to(owned.dtype), owned))


def entries_by_state(states: Sequence[Sequence[PagedKVState]], num_entries: Sequence[int]) -> dict[int, int]:
    """For `FixedStep`: the states of each stage, and the entries to read of them."""
    return {id(state): num for group, num in zip(states, num_entries, strict=True) for state in group}
