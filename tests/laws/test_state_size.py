"""What a sequence costs to remember: chunks where attention is global, a window where it is not, nothing more."""

import torch
from law_subjects import config_of, lively

from hnet_lm.model import HNetLM
from hnet_lm.model.hnet import HNetState
from hnet_lm.model.isotropic import IsotropicState
from hnet_lm.ops.attention import KVState
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


def kv(stack: State, block: int = 0) -> KVState:
    assert isinstance(stack, IsotropicState)
    state = stack.blocks[block]
    assert isinstance(state, KVState)
    return state


@torch.no_grad()
def feed(model: HNetLM, state: State, lengths: list[int]) -> tuple[State, list[list[int]]]:
    """The state after so many more random bytes, and how many chunks each stage made of them."""
    out = model(torch.randint(254, (sum(lengths),)), Sequences.from_lengths(lengths), state)
    assert out.state is not None
    chunks = [[int(part.sum()) for part in r.is_boundary.split(r.seqs.host_lengths)] for r in out.routings]
    return out.state, chunks


def test_the_innermost_layer_remembers_one_entry_a_chunk() -> None:
    model = lively(config_of(["t1", ["t1", ["t1"], "t1"], "t1"], [32, 32, 32], [-1, -1, -1]))
    state = model.new_state(3)
    seen = [[0, 0, 0] for _ in range(3)]
    for lengths in ([40, 0, 7], [1, 1, 1], [0, 90, 30]):
        state, chunks = feed(model, state, lengths)
        for total, new in zip(seen, [lengths, *chunks], strict=True):
            total[:] = [a + b for a, b in zip(total, new, strict=True)]
        assert isinstance(state, HNetState)
        inner = state.main_network
        assert isinstance(inner, HNetState)
        for stage, stacks in enumerate(
            [(state.encoder, state.decoder), (inner.encoder, inner.decoder), (inner.main_network,)]
        ):
            for stack in stacks:
                assert kv(stack).num_seen.tolist() == seen[stage]
    assert max(seen[2]) < max(seen[1]) < max(seen[0])
    assert kv(inner.main_network).num_bytes < kv(state.encoder).num_bytes  # pyright: ignore[reportArgumentType]  states by their names


def test_global_attention_grows_with_what_was_seen_and_no_faster() -> None:
    model = lively(config_of(["t1"], [32], [-1]))
    state, entries = model.new_state(1), []
    for _ in range(40):
        state, _ = feed(model, state, [50])
        entries.append(kv(state).num_entries)
    assert entries == sorted(entries)
    assert all(50 * (i + 1) <= n <= 1.5 * 50 * (i + 1) + 64 for i, n in enumerate(entries))
    assert len(set(entries)) < 20  # in steps: not every call moves it to a larger place


def test_a_windowed_layer_keeps_only_its_window() -> None:
    model = lively(config_of(["t1", ["t1"], "t1"], [32, 32], [9, 4]))
    state, _ = feed(model, model.new_state(2), [3, 500])
    assert isinstance(state, HNetState)
    assert kv(state.encoder).num_entries == 10
    assert kv(state.decoder).num_entries == 10
    assert kv(state.main_network).num_entries == 5


def test_without_global_attention_a_state_is_constant() -> None:
    model = lively(config_of(["m1t1", ["T1M1"], "m1"], [32, 64], [20, 6]))
    state, _ = feed(model, model.new_state(2), [300, 300])
    size = state.num_bytes
    for lengths in ([1, 1], [0, 700], [1000, 3]):
        state, _ = feed(model, state, lengths)
        assert state.num_bytes == size


def test_an_ssm_model_is_constant_from_the_start() -> None:
    model = lively(config_of(["m1", ["M1"], "m1"], [32, 64], [-1, -1]))
    state = model.new_state(2)
    size = state.num_bytes
    for lengths in ([0, 0], [1, 0], [400, 100]):
        state, _ = feed(model, state, lengths)
        assert state.num_bytes == size
    assert size == 2 * model.new_state(1).num_bytes
