"""The chunkers that learn nothing: their rules, and the laws of states for each."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from baseline_models import FIXED, SMALL, TEXT, small_config, small_model
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.generation import generate
from hnet_lm.model import HNetLM
from hnet_lm.model.dynamic_chunking.chunkers.entropy import entropy_in_bits
from hnet_lm.model.dynamic_chunking.chunkers.random import uniform
from hnet_lm.model.dynamic_chunking.chunkers.space import is_spacelike
from hnet_lm.sequences import Sequences

LENGTHS = [5, 0, 63, 1, 64, 65]

every_chunker = pytest.mark.parametrize("chunker", FIXED)


def ids_of(num: int, seed: int = 0) -> Tensor:
    """Bytes of the text from a random place on, BOS among them now and then."""
    start = int(torch.randint(len(TEXT), (1,), generator=torch.Generator().manual_seed(seed)))
    ids = torch.tensor(list((TEXT * 3)[start : start + num]), dtype=torch.int64)
    ids[:: 29 + seed] = 254
    return ids


def given_boundaries(ids: Tensor) -> Tensor:
    """For the oracle: a function of each byte, so that pieces of a text get what the whole text gets."""
    return ids % 5 == 0


def sequences(lengths: list[int], ids: Tensor, slots: Tensor | None = None) -> Sequences:
    seqs = Sequences.from_lengths(lengths, slots).with_boundaries(given_boundaries(ids))
    return seqs.with_input_ids(ids)


def route(model: HNetLM, seqs: Sequences, state: Any = None) -> tuple[Tensor, Any]:
    """What the model's chunker decides, without the rest of the model."""
    network: Any = model.network
    x = torch.zeros(seqs.num_positions, model.config.stages[0].d_model)
    routing, state = network.routing(x, seqs, state)
    assert not routing.is_learned
    assert torch.equal(routing.boundary_prob, routing.is_boundary.float())
    assert bool((routing.confidence == 1).all())
    return routing.is_boundary, state


def fresh(model: HNetLM, num: int) -> Any:
    network: Any = model.network
    return network.routing.new_state(num)


def cuts(length: int) -> Iterator[int]:
    return iter({0, 1, 2, length // 2, length - 1, length})


@every_chunker
def test_split(chunker: str):
    model, ids = small_model(chunker), ids_of(70)
    whole, _ = route(model, sequences([70], ids))
    assert 0 < int(whole.sum()) < 70
    assert bool(whole[0])
    for cut in cuts(70):
        state, parts = fresh(model, 1), []
        for part in (ids[:cut], ids[cut:]):
            found, state = route(model, sequences([len(part)], part), state)
            parts.append(found)
        assert torch.equal(torch.cat(parts), whole)


@every_chunker
def test_split_into_single_bytes_of_ragged_sequences(chunker: str):
    model, lengths = small_model(chunker), [7, 3, 9]
    texts = [ids_of(n, seed=n) for n in lengths]
    state, found = fresh(model, 3), [[] for _ in lengths]
    for t in range(max(lengths)):
        present = [int(t < n) for n in lengths]
        ids = torch.cat([text[t : t + 1] for text in texts])
        decided, state = route(model, sequences(present, ids), state)
        for i, value in zip([i for i, there in enumerate(present) if there], decided.tolist(), strict=True):
            found[i].append(value)
    for text, decisions in zip(texts, found, strict=True):
        assert route(model, sequences([len(text)], text))[0].tolist() == decisions


@every_chunker
def test_ragged_equals_each_alone(chunker: str):
    model = small_model(chunker)
    texts = [ids_of(n, seed=n) for n in LENGTHS]
    packed, _ = route(model, sequences(LENGTHS, torch.cat(texts)))
    alone = [route(model, sequences([len(text)], text))[0] for text in texts]
    assert torch.equal(packed, torch.cat(alone))


@every_chunker
def test_empty_sequences_keep_their_state(chunker: str):
    model, ids = small_model(chunker), ids_of(12)
    _, state = route(model, sequences([6, 6], ids), fresh(model, 2))
    before = state.clone()
    nothing = ids[:0]
    none, state = route(model, sequences([0, 0], nothing), state)
    assert len(none) == 0
    after = ids_of(4, seed=3)
    expected, _ = route(model, sequences([4, 0], after), before)
    assert torch.equal(route(model, sequences([4, 0], after), state)[0], expected)


@every_chunker
def test_select_join_and_slots(chunker: str):
    model = small_model(chunker)
    heads, tails = ([ids_of(n, seed=s + n) for s in range(3)] for n in (5, 8))
    _, state = route(model, sequences([5] * 3, torch.cat(heads)), fresh(model, 3))
    order = [2, 0, 1]
    chosen = type(state).join([state.select([2]), state.select([0, 1])])
    mixed = torch.cat([tails[i] for i in order])
    expected = [route(model, sequences([13], torch.cat([heads[i], tails[i]])))[0][5:] for i in order]
    assert torch.equal(route(model, sequences([8] * 3, mixed), chosen)[0], torch.cat(expected))
    by_slot = sequences([8] * 3, mixed, slots=torch.tensor(order))
    assert torch.equal(route(model, by_slot, state)[0], torch.cat(expected))


@every_chunker
def test_the_whole_model_split_and_ragged(chunker: str):
    model, lengths = small_model(chunker).double(), [40, 0, 23]
    ids = torch.cat([ids_of(n, seed=n) for n in lengths])
    whole = model(ids, sequences(lengths, ids))
    state, parts = model.new_state(3), []
    for start, stop in ((0, 10), (10, 11), (11, 40)):
        rows = [range(max(0, min(stop, n) - min(start, n))) for n in lengths]
        offsets = [0, 40, 40]
        chosen = [
            offset + min(start, n) + r for offset, n, row in zip(offsets, lengths, rows, strict=True) for r in row
        ]
        out = model(ids[chosen], sequences([len(row) for row in rows], ids[chosen]), state)
        state = out.state
        parts.append((chosen, out.logits))
    logits = torch.empty_like(whole.logits)
    for chosen, part in parts:
        logits[chosen] = part
    assert torch.allclose(logits, whole.logits, atol=1e-5)


@pytest.mark.parametrize("chunker", [name for name in FIXED if name != "oracle"])
@torch.no_grad()
def test_generation_is_the_likeliest_byte_of_one_pass_over_all_before(chunker: str):
    model = small_model(chunker).double()
    prompts = ["Three blind", "mice, see", "a"]
    written = generate(model, prompts, max_new_bytes=6, temperature=0.0, return_bytes=True)
    for prompt, data in zip(prompts, written, strict=True):
        ids = [254, *prompt.encode()]
        for _ in range(6):
            logits = model(torch.tensor(ids)).logits[-1]
            logits[254] = -torch.inf  # BOS is never written
            ids.append(int(logits.argmax()))
        likeliest = ids[1 + len(prompt) :]
        assert list(data) == list(itertools.takewhile(lambda i: i != 255, likeliest))


def test_gradients_reach_the_encoder_through_a_fixed_chunker():
    model = small_model("pool")
    model(ids_of(30)).logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_space_rule_is_the_papers():
    """Letters, digits and continuation bytes are not spacelike; everything else is."""
    paper = [
        b < ord("0") or ord("9") < b < ord("A") or ord("Z") < b < ord("a") or ord("z") < b < 0x80 or b >= 0xC0
        for b in range(256)
    ]
    assert is_spacelike(torch.arange(256)).tolist() == paper


def test_space_cuts_at_words():
    text = "Hi, two  words: naïve 你好!"
    data = text.encode()
    ids = torch.tensor([254, *data])
    is_boundary, _ = route(small_model("space"), sequences([len(ids)], ids))
    starts = [i - 1 for i in is_boundary.nonzero().squeeze(1).tolist()]
    assert starts[0] == -1  # BOS
    # A run of spacelike bytes starts one chunk, at its first; lead bytes of UTF-8 are spacelike.
    expected = [m.start() for m in re.finditer(rb"(?<![^0-9A-Za-z\x80-\xbf])[^0-9A-Za-z\x80-\xbf]", data)]
    assert starts[1:] == expected
    assert data[starts[1] : starts[2]] == b", two"


def test_bos_in_the_middle_starts_a_chunk():
    ids = torch.tensor([*b"ab", 254, *b"cd"])
    assert route(small_model("space"), sequences([5], ids))[0].tolist() == [True, False, True, False, False]


def test_pool_cuts_every_stride_positions():
    found, _ = route(small_model("pool"), sequences([4, 5], ids_of(9)))
    assert found.tolist() == [True, False, False, True, True, False, False, True, False]


def test_random_draws_are_uniform_independent_and_of_their_seed():
    u = uniform(3, torch.arange(40_000))
    assert 0 <= float(u.min()) <= float(u.max()) < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(((u[1:] - 0.5) * (u[:-1] - 0.5)).mean()) == pytest.approx(0, abs=0.002)
    others = uniform(4, torch.arange(40_000))
    assert float(((u - 0.5) * (others - 0.5)).mean()) == pytest.approx(0, abs=0.002)
    assert not torch.isin(others[:100], u).any()
    assert float((u < 0.3).double().mean()) == pytest.approx(0.3, abs=0.01)


def test_entropy_cuts_where_the_byte_model_was_unsure():
    model: Any = small_model("entropy")
    ids = ids_of(50)
    logits = model.network.routing.byte_model(ids).logits.double()
    p = logits.softmax(-1)
    entropy = -(p * p.log2()).sum(-1)
    expected = [True, *(entropy[:-1] > 7.68).tolist()]
    assert route(model, sequences([50], ids))[0].tolist() == expected
    assert torch.allclose(entropy_in_bits(logits), entropy)
    assert not any(parameter.requires_grad for parameter in model.network.routing.parameters())


def test_entropy_of_a_certain_and_of_a_uniform_guess():
    logits = torch.tensor([[0.0, -1e9, -1e9, -1e9], [1.0, 1.0, 1.0, 1.0]])
    assert entropy_in_bits(logits).tolist() == pytest.approx([0.0, 2.0])


def test_oracle_takes_what_is_given():
    model = small_model("oracle")
    ids = ids_of(6)
    seqs = Sequences.from_lengths([3, 3]).with_boundaries(torch.tensor([0, 1, 0, 0, 0, 1], dtype=torch.bool))
    (routing,) = model(ids, seqs).routings
    assert routing.is_boundary.tolist() == [True, True, False, True, False, True]
    with pytest.raises(ConfigError, match="given no boundaries"):
        model(ids)
    with pytest.raises(ValueError, match="5 boundaries are given for 6 positions"):
        seqs.with_boundaries(torch.ones(5, dtype=torch.bool))


def test_a_rule_outside_and_a_learned_chunker_inside():
    table = {
        **SMALL,
        "arch_layout": ["m1", ["m1", ["T1"], "m1"], "m1"],
        "d_model": [32, 32, 48],
        "d_intermediate": [0, 0, 64],
        "attn_cfg": {"num_heads": [2] * 3, "rotary_emb_dim": [8] * 3, "window_size": [-1] * 3},
        "chunkers": [{"name": "space"}, {"name": "dynamic"}],
    }
    out = HNetLM(HNetConfig.from_dict(table))(ids_of(40))
    assert [routing.is_learned for routing in out.routings] == [False, True]


@every_chunker
def test_config_there_and_back(chunker: str):
    config = small_config(chunker, spacebyte=True)
    written = config.to_dict()
    assert written["chunkers"] == [FIXED[chunker]]
    assert written["spacebyte"] is True
    assert HNetConfig.from_dict(written) == config


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"chunkers": [{"name": "spaces"}]}, "entry 0: no chunker 'spaces'; there are dynamic, .* space"),
        ({"chunkers": [{"name": "pool", "strid": 3}]}, r"entry 0 \(pool\): unknown key 'strid'; did you mean 'stride'"),
        ({"chunkers": [{"name": "pool", "stride": 1}]}, "pool.stride: must be a whole number, 2 or more, got 1"),
        ({"chunkers": [{"name": "pool", "stride": 2.5}]}, "must be a whole number"),
        ({"chunkers": [{"name": "random", "rate": 1.5}]}, "random.rate: must be a number above 0 and below 1, got 1.5"),
        ({"chunkers": [{"name": "random", "rate": "high"}]}, "rate: must be a number, got 'high'"),
        ({"chunkers": [{"name": "random", "seed": -1}]}, "random.seed: must be a whole number"),
        ({"chunkers": ["space"]}, "entry 0: must be an object with a name"),
        ({"chunkers": "space"}, "must be a list with one entry for each stage that chunks"),
        ({"chunkers": []}, "chunks 1 times, but 0 entries"),
        ({"chunkers": [{"name": "pool"}] * 2}, "chunks 1 times, but 2 entries"),
        ({"chunkers": [{"name": "entropy"}]}, "an 'entropy' chunker needs it"),
        ({"byte_model": SMALL}, "goes with an 'entropy' chunker"),
        ({"chunkers": [{"name": "entropy"}], "byte_model": {"d_model": [3]}}, "byte_model: config: 'arch_layout'"),
        (
            {"chunkers": [{"name": "entropy"}], "byte_model": {**SMALL, "vocab_size": 258}},
            "its vocab_size is 258, that of the model 256",
        ),
        ({"spacebyte": 1}, "must be true or false"),
    ],
)
def test_what_a_config_refuses(changes: dict[str, Any], says: str):
    with pytest.raises(ConfigError, match=says):
        HNetConfig.from_dict({**SMALL, **changes})


def test_only_the_outermost_stage_sees_bytes():
    table = {
        **SMALL,
        "arch_layout": ["m1", ["m1", ["T1"], "m1"], "m1"],
        "d_model": [32, 32, 48],
        "d_intermediate": [0, 0, 64],
        "attn_cfg": {"num_heads": [2] * 3, "rotary_emb_dim": [8] * 3, "window_size": [-1] * 3},
        "chunkers": [{"name": "dynamic"}, {"name": "space"}],
    }
    with pytest.raises(ConfigError, match="entry 1: 'space' looks at the bytes, which only the outermost stage has"):
        HNetConfig.from_dict(table)
    chunker: Any = small_model("space").network
    with pytest.raises(ConfigError, match="'space' chunker looks at the bytes"):
        chunker.routing(torch.zeros(4, 32), Sequences.from_lengths([4]))
