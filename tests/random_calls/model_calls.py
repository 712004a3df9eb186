"""Random calls of sequences, states, models and their parts, losses, and of the functions of the facade."""

from functools import cache
from random import Random
from typing import Any

import torch
from calls import Call, spoiled
from torch import Tensor

import hnet_lm
from hnet_lm.config import HNetConfig
from hnet_lm.losses import next_byte_loss, ratio_loss_of
from hnet_lm.model import HNetLM
from hnet_lm.ops import use_backend
from hnet_lm.sequences import Sequences

STACKS = (["m1T1"], ["m1", ["T1"], "t1"])


@cache
def model(index: int) -> HNetLM:
    num = len(STACKS[index]) // 2 + 1
    sizes = {"num_heads": [2] * num, "rotary_emb_dim": [8] * num, "window_size": [3] * num}
    keys = {"arch_layout": STACKS[index], "d_model": [32] * num, "d_intermediate": [48] * num, "attn_cfg": sizes}
    config = HNetConfig.from_dict(keys | {"ssm_cfg": {"d_state": 8, "expand": 2}})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HNetLM(config).requires_grad_(False)


def sequences_call(random: Random) -> Call:
    """What can be read off sequences is what the lengths say."""
    lengths = [random.randrange(4) for _ in range(random.randrange(4))]
    if random.random() < 0.5:
        return _call("from_lengths", _layout_of_lengths, random, {"lengths": lengths, "slots": _slots(random, lengths)})
    ends = torch.tensor([0, *lengths]).cumsum(0)
    return _call("Sequences", _layout, random, {"cu_seqlens": ends, "slots": _slots(random, lengths)})


def _slots(random: Random, lengths: list[int]) -> Tensor | None:
    return torch.tensor(random.sample(range(9), len(lengths))).long() if random.random() < 0.5 else None


def _layout(**arguments: Any) -> Any:
    seqs = Sequences(**arguments)
    return _read(seqs) if seqs.num_positions < 1000 else []


def _layout_of_lengths(**arguments: Any) -> Any:
    seqs = Sequences.from_lengths(**arguments)
    return _read(seqs) if seqs.num_positions < 1000 else []


def _read(seqs: Sequences) -> Any:
    return [seqs, seqs.sequence_ids, seqs.positions, seqs.nonempty_only()]


def state_call(random: Random) -> Call:
    state = model(random.randrange(2)).new_state(4)
    if random.random() < 0.6:
        indices = [random.randrange(4) for _ in range(random.randrange(4))]
        given = torch.tensor(indices).long() if random.random() < 0.5 else indices
        return _call("select", state.select, random, {"indices": given})
    return _call("join", lambda other: type(state).join([state, other]), random, {"other": state.select([0])})


def loss_call(random: Random) -> Call:
    if random.random() < 0.3:
        f, g = torch.rand(()), torch.rand(())
        return _call(
            "ratio_loss", ratio_loss_of, random, {"boundary_fraction": f, "mean_boundary_prob": g, "target_ratio": 6.0}
        )
    shape = random.choice([(5,), (2, 3), (1, 1)])
    targets = torch.randint(-1, 7, shape)
    targets[targets == -1] = -100
    return _call("next_byte_loss", next_byte_loss, random, {"logits": torch.randn(*shape, 7), "targets": targets})


def model_call(random: Random) -> Call:
    """Of a whole model, against the reference of all ops."""
    language_model = model(random.randrange(2))
    lengths = [random.randrange(5) for _ in range(random.randrange(1, 4))]
    slots = _slots(random, lengths)
    state = language_model.new_state(len(lengths) if slots is None else 9) if random.random() < 0.7 else None
    arguments = {
        "input_ids": torch.randint(254, (sum(lengths),)),
        "seqs": Sequences.from_lengths(lengths, slots),
        "state": state,
    }
    name = random.choice(["forward", "encode"])
    return _with_backend(f"HNetLM.{name}", getattr(language_model, name), random, arguments)


def rows_call(random: Random) -> Call:
    """Of a whole model over rows with a mask."""
    b, length = random.randrange(1, 4), random.randrange(1, 5)
    mask = torch.arange(length) < torch.tensor([[random.randrange(1, length + 1)] for _ in range(b)])
    arguments = {
        "input_ids": torch.randint(254, (b, length)),
        "attention_mask": random.choice([mask, mask.long(), None]),
    }
    return _with_backend("HNetLM.rows", model(random.randrange(2)).forward, random, arguments)


def part_call(random: Random) -> Call:
    """Of a network by itself."""
    network: Any = model(random.randrange(2)).network
    lengths = [random.randrange(5) for _ in range(random.randrange(1, 4))]
    state = network.new_state(len(lengths)) if random.random() < 0.5 else None
    arguments = {"x": torch.randn(sum(lengths), 32), "seqs": Sequences.from_lengths(lengths), "state": state}
    return _with_backend(type(network).__name__, network, random, arguments)


def generate_call(random: Random) -> Call:
    arguments: dict[str, Any] = {"prompts": ["a", b"\xf0"][: random.randrange(3)], "max_new_bytes": random.randrange(3)}
    options = {"temperature": 0.7, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "seed": 1, "stop": ("b",), "logprobs": 1}
    arguments |= {key: options[key] for key in random.sample(list(options), 2)}
    return _call("generate", lambda **given: hnet_lm.generate(model(1), **given), random, arguments)


def score_call(random: Random) -> Call:
    arguments = {"prompts": ["ab", b"c"], "continuations": ["d", "e"]}
    return _call("score", lambda **given: hnet_lm.score(model(1), **given), random, arguments)


def chunks_call(random: Random) -> Call:
    arguments = {"text": random.choice(["ab c", b"\xff\x00", ""]), "piece_bytes": random.choice([1, 3, 100])}
    return _call("chunks", lambda **given: hnet_lm.chunks(model(1), **given), random, arguments)


def _with_backend(family: str, function: Any, random: Random, arguments: dict[str, Any]) -> Call:
    def run(*, backend: str | None, **given: Any) -> Any:
        if backend is None:
            return function(**given)
        with use_backend(backend):
            return function(**given)

    call = _call(family, run, random, arguments)
    call.options, call.reference = {"backend": random.choice([None, "eager"])}, {"backend": "reference"}
    return call


def _call(family: str, function: Any, random: Random, arguments: dict[str, Any]) -> Call:
    num_spoiled = random.choice([0, 1, 1])
    return Call(family, function, spoiled(random, arguments, num_spoiled), is_right=not num_spoiled)
