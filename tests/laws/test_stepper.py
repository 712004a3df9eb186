"""Stepper: streams that join, leave and come back get what the forward gives, under every type of weights."""

import copy
import random
from typing import Any, get_args

import pytest
import torch
from law_subjects import MODELS, config_of, decides_with_margin, lively
from torch import Tensor, nn

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.generation.boundaries import byte_boundaries
from hnet_lm.generation.rounded_weights import Weights, with_weights
from hnet_lm.generation.stepper import STEPPERS, OutOfPages, PlainStepper, Stepper
from hnet_lm.model import HNetLM
from hnet_lm.state import tensors
from thoroughness import examples

ATOL = 1e-4
LENGTH = 40
NUM_STEPS = examples(25)

ON_CPU = [kind for name, kind in STEPPERS.items() if name != "cuda"]
over_steppers = pytest.mark.parametrize("kind", ON_CPU)
over_weights = pytest.mark.parametrize("weights", [None, *get_args(Weights)])
over_models = pytest.mark.parametrize("subject", [MODELS[i] for i in (0, 1, 2, 3, 4, 10, 11, 12)], ids=str)


def entropy_model() -> HNetLM:
    """Its chunker has a model of its own, with attention."""
    byte_model = {
        "arch_layout": ["m1t1"],
        "d_model": [32],
        "d_intermediate": [0],
        "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
        "attn_cfg": {"num_heads": [2], "rotary_emb_dim": [8], "window_size": [-1]},
    }
    outer = {
        "arch_layout": ["m1", ["T1"], "t1"],
        "d_model": [32, 48],
        "d_intermediate": [0, 64],
        "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
        "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [8, 8], "window_size": [15, -1]},
    }
    chunkers = [{"name": "entropy", "threshold": 7.68}]
    model: Any = HNetLM(HNetConfig.from_dict({**outer, "chunkers": chunkers, "byte_model": byte_model}))
    model.network.routing.byte_model.lm_head.weight.data.mul_(6)  # entropies on both sides of the threshold
    return model.requires_grad_(False)


@torch.no_grad()
def text_of(exact: HNetLM, length: int) -> list[int]:
    """Random bytes about which every stage decides with a margin."""
    while True:
        ids = torch.randint(254, (length,))
        if decides_with_margin(exact, ids):
            return ids.tolist()


class Streams:
    """What a stepper said of each stream beside what the forward of the whole text says."""

    def __init__(self, stepper: Stepper, exact: HNetLM, seed: int):
        self.stepper = stepper
        self.exact = exact
        self.rng = random.Random(seed)
        self.texts: dict[int, list[int]] = {}
        self.num_read: dict[int, int] = {}
        self.logits: dict[int, Tensor] = {}

    @torch.no_grad()
    def admit(self, text: list[int] | None = None) -> int:
        stream = self.stepper.admit()
        assert stream not in self.texts
        self.texts[stream] = text or text_of(self.exact, LENGTH)
        self.logits[stream] = self.exact(torch.tensor(self.texts[stream])).logits
        self.num_read[stream] = 0
        return stream

    def drop(self, stream: int) -> list[int]:
        self.stepper.drop(stream)
        del self.num_read[stream], self.logits[stream]
        return self.texts.pop(stream)

    def read(self, lengths: dict[int, int]) -> None:
        """So many bytes of each: one call, of which everything is compared."""
        streams = [s for s, n in lengths.items() if self.num_read[s] + n <= LENGTH]
        self.rng.shuffle(streams)
        ids = [self.texts[s][self.num_read[s] : self.num_read[s] + lengths[s]] for s in streams]
        if all(len(some) == 1 for some in ids):
            out = self.stepper.step(streams, [some[0] for some in ids])
        else:
            out = self.stepper.extend(streams, ids)
        expected = []
        for index, (stream, some) in enumerate(zip(streams, ids, strict=True)):
            expected.append(self.logits[stream][self.num_read[stream] :][: len(some)])
            self.num_read[stream] += len(some)
            if self.rng.random() < 0.1:
                whole = byte_boundaries(self.exact(torch.tensor(self.texts[stream])).routings, 0)
                part = whole[self.num_read[stream] - len(some) : self.num_read[stream]]
                found = out.boundaries(index)
                assert [b.depth for b in found] == [b.depth for b in part]
                for one, other in zip(found, part, strict=True):
                    assert one.probs == pytest.approx(other.probs, abs=ATOL)
        if expected:
            torch.testing.assert_close(out.logits.double(), torch.cat(expected), rtol=0, atol=ATOL)

    def run(self, num_steps: int) -> None:
        """Streams join, read one byte or several or none, leave, and come back to read everything again."""
        for _ in range(num_steps):
            live = list(self.texts)
            match self.rng.choice(["admit", "step", "step", "step", "extend", "drop", "again"]):
                case "admit" if len(live) < self.stepper.max_streams:
                    self.admit()
                case "drop" if len(live) > 1:
                    self.drop(self.rng.choice(live))
                case "again" if live:
                    stream = self.rng.choice(live)
                    num_read = self.num_read[stream]
                    stream = self.admit(self.drop(stream))
                    self.read({stream: num_read})
                case "extend":
                    self.read({s: self.rng.choice([0, 1, 2, 9]) for s in live if self.rng.random() < 0.7})
                case _:
                    self.read({s: 1 for s in live if self.rng.random() < 0.7})


def checked(kind: type[Stepper], model: HNetLM, weights: Weights | None, num_steps: int, **options: Any) -> None:
    rounded = model if weights is None else with_weights(model, weights)
    reason = kind.supports(rounded)
    if reason is not None:
        pytest.skip(reason)
    stepper = kind(model, 4, weights=weights, **options)
    exact = copy.deepcopy(rounded).double()
    stepper.pool.pages.fill_(torch.nan)  # what nobody has written is never seen
    addresses = [tensor.data_ptr() for tensor in tensors(stepper.state)]
    streams = Streams(stepper, exact, seed=0)
    streams.run(num_steps)
    assert [tensor.data_ptr() for tensor in tensors(stepper.state)] == addresses
    for stream in list(streams.texts):
        streams.drop(stream)
    assert stepper.pool.num_free == stepper.pool.num_pages
    assert stepper.state_bytes == 0


@pytest.mark.scaled
@over_steppers
@over_weights
@over_models
def test_every_stepper_gives_what_the_forward_gives(kind: type[Stepper], weights: Weights | None, subject: Any) -> None:
    checked(kind, subject.module, weights, num_steps=NUM_STEPS, pool_bytes=2**22)


@pytest.mark.scaled
@over_steppers
def test_a_model_whose_chunker_has_a_model_of_its_own(kind: type[Stepper]) -> None:
    checked(kind, entropy_model(), None, num_steps=NUM_STEPS, pool_bytes=2**22)


@over_steppers
@pytest.mark.parametrize(
    "extensions",
    [
        {"chunkers": [{"name": "dynamic", "threshold": 0.35}]},
        {"chunking": [{"smoothing": "none", "confidence": "none", "residual": "identity"}]},
        {"chunking": [{"smoothing": "bytes", "confidence": "weight", "residual": "none"}]},
    ],
    ids=str,
)
def test_other_thresholds_and_other_parts(kind: type[Stepper], extensions: dict[str, Any]) -> None:
    checked(
        kind, lively(config_of(["m1t1", ["T1"], "m1"], [32, 48], [5, -1], **extensions)), None, 25, pool_bytes=2**22
    )


@over_steppers
@torch.no_grad()
def test_keys_and_values_in_bfloat16_change_little(kind: type[Stepper]) -> None:
    model = lively(config_of(["t1", ["T1"], "t1"], [32, 48], [-1, 5]))
    ids = text_of(copy.deepcopy(model).double(), LENGTH)
    outputs = []
    for keys_values in (None, "bfloat16"):
        stepper = kind(model, 2, pool_bytes=2**20, keys_values=keys_values)
        stream = stepper.admit()
        outputs.append(torch.cat([stepper.step([stream], [i]).logits for i in ids]))
        assert stepper.pool.pages.dtype == (torch.bfloat16 if keys_values else torch.float32)
    error = (outputs[1] - outputs[0]).norm() / outputs[0].norm()
    assert 0 < error < 0.02


@over_steppers
def test_what_is_wrong_is_said_and_changes_nothing(kind: type[Stepper]) -> None:
    model = lively(config_of(["t1", ["T1"], "t1"], [32, 48], [-1, 5]))
    stepper = kind(model, 2, pool_bytes=2**16)
    streams = Streams(stepper, copy.deepcopy(model).double(), seed=0)
    first = streams.admit()
    streams.read({first: 5})
    before = [tensor.clone() for tensor in tensors(stepper.state)]
    num_free = stepper.pool.num_free
    for call, error, message in (
        (lambda: stepper.step([1 - first], [3]), ValueError, f"stream {1 - first} is not admitted"),
        (lambda: stepper.step([first, first], [3, 3]), ValueError, "a stream is named twice"),
        (lambda: stepper.step([first], [256]), ValueError, "ids must be from 0 to 255, got 256 to 256"),
        (lambda: stepper.extend([first], [[3, -1]]), ValueError, "ids must be from 0 to 255, got -1 to 3"),
        (lambda: stepper.step([first], [3, 3]), ValueError, "ids of 2 streams are given for 1 streams"),
        (lambda: stepper.drop(1 - first), ValueError, f"stream {1 - first} is not admitted"),
        (lambda: stepper.extend([first], [[3] * 4000]), OutOfPages, "pages may be needed"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert all(a.equal(b) for a, b in zip(tensors(stepper.state), before, strict=True) if a.dim() < 2 or len(a) == 2)
    assert stepper.pool.num_free == num_free
    streams.read({first: 20})
    streams.admit()
    with pytest.raises(ValueError, match="all 2 streams of this stepper are in use"):
        stepper.admit()
    with pytest.raises(ConfigError, match=r"a pool of 1,000 bytes is too small .* this model needs [0-9,]+ or more"):
        kind(model, 2, pool_bytes=1000)


@torch.no_grad()
def test_hooks_and_replaced_layers_work_in_a_plain_step() -> None:
    class Changed(nn.Module):
        """A layer that has no weight to read."""

        def __init__(self, inner: nn.Module):
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + 0.1 * x.roll(1, -1).mean(-1, keepdim=True)

    model = copy.deepcopy(MODELS[10].module)
    layer = "network.encoder.blocks.0.mixer"
    model.get_submodule(layer).in_proj = Changed(model.get_submodule(f"{layer}.in_proj"))
    fired: list[int] = []
    model.get_submodule(f"{layer}.norm").register_forward_hook(lambda _, args, __: fired.append(len(args[0])))
    ids = text_of(copy.deepcopy(model).double(), LENGTH)
    changed, plain = model(torch.tensor(ids)).logits, MODELS[10].module(torch.tensor(ids)).logits
    assert (changed - plain).abs().max() > 0.01
    fired.clear()
    stepper = PlainStepper(model, 2, pool_bytes=2**22)
    stream = stepper.admit()
    logits = torch.cat([stepper.step([stream], [i]).logits for i in ids])
    torch.testing.assert_close(logits, changed, rtol=0, atol=ATOL)
    assert fired == [1] * LENGTH
