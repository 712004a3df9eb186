"""A model with rounded weights: how much smaller, how close, and that the model it was made of stays as it is."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from hnet_lm import generate
from hnet_lm.evaluation import ByteScorer, bits_per_byte
from hnet_lm.generation.rounded_weights import RoundedLinear, Weights, with_weights
from hnet_lm.losses import next_byte_loss
from hnet_lm.model import HNetLM
from hnet_lm.model.layers import Float32Linear
from hnet_lm.state import tensors

TEXT = b"the cat sat on the mat; the dog sat on the log. "

every_type = pytest.mark.parametrize("weights", get_args(Weights))


def num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def held(model: HNetLM) -> int:
    return num_bytes(chain(model.parameters(), model.buffers()))


def tensors_of(model: HNetLM) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def trained(make_model: Callable[..., HNetLM]) -> HNetLM:
    """Knows a sentence, so that its logits mean something."""
    model = make_model(["m1", ["T1"], "m1"]).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.tensor([254, *TEXT * 3])
    for _ in range(25):
        loss = next_byte_loss(model(ids[:-1]).logits, ids[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@every_type
def test_bits_per_byte_hardly_move(trained: HNetLM, weights: Weights) -> None:
    texts = {"": [TEXT * 2, TEXT[10:] + b"a cat"]}
    exact = bits_per_byte(ByteScorer(trained), texts).value
    assert exact < 4  # it has learned something
    assert bits_per_byte(ByteScorer(with_weights(trained, weights)), texts).value == pytest.approx(exact, rel=0.01)


@every_type
def test_logits_are_close(trained: HNetLM, weights: Weights) -> None:
    ids = torch.tensor([254, *TEXT])
    with torch.no_grad():
        exact = trained(ids).logits
        error = with_weights(trained, weights)(ids).logits - exact
    assert error.norm() / exact.norm() < {"float32": 1e-6, "bfloat16": 0.02, "int8": 0.02}[weights]


@every_type
def test_it_continues_prompts_also_many_at_once(model: HNetLM, weights: Weights) -> None:
    rounded = with_weights(model, weights)

    def continued(*prompts: str | bytes) -> list[bytes]:
        return generate(rounded, prompts, max_new_bytes=6, temperature=0, ignore_eos=True, return_bytes=True)

    prompts = ["Once", b"", "upon " * 12]
    together = continued(*prompts)
    assert [len(data) for data in together] == [6] * 3
    assert together == [data for prompt in prompts for data in continued(prompt)]


@every_type
def test_the_model_itself_stays_as_it_is(trained: HNetLM, weights: Weights) -> None:
    before = tensors_of(trained)
    rounded = with_weights(trained, weights)
    for parameter in rounded.parameters():
        assert not parameter.requires_grad
        parameter.zero_()
    after = tensors_of(trained)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in trained.parameters())


@pytest.mark.parametrize(("weights", "least", "most"), [("bfloat16", 0.5, 0.5), ("int8", 0.25, 0.27)])
def test_the_linear_maps_become_so_much_smaller(model: HNetLM, weights: Weights, least: float, most: float) -> None:
    rounded = with_weights(model, weights)
    maps = [module for module in rounded.modules() if isinstance(module, RoundedLinear)]
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    assert len(maps) == len(linears)
    now, then = (num_bytes(chain(*(module.state_dict().values() for module in kind))) for kind in (maps, linears))
    assert least <= now / then <= most  # of int8 the scales are 1 in d_in of the weights
    assert held(model) - held(rounded) == then - now
    assert any(isinstance(module, Float32Linear) for module in rounded.modules())
    assert sum(map(torch.numel, rounded.parameters())) == sum(map(torch.numel, model.parameters()))


@every_type
def test_the_state_stays_float32(model: HNetLM, weights: Weights) -> None:
    rounded, ids = with_weights(model, weights), torch.tensor([254, *TEXT])
    out, exact = (some(ids, state=some.new_state(1)) for some in (rounded, model))
    assert out.state is not None
    assert out.state.num_bytes == exact.state.num_bytes
    assert rounded.new_state(1).num_bytes == model.new_state(1).num_bytes
    assert {t.dtype for t in tensors(rounded.new_state(1)) if t.is_floating_point()} == {torch.float32}


@every_type
def test_a_tied_head_stays_the_embedding(model: HNetLM, weights: Weights) -> None:
    rounded = with_weights(HNetLM(replace(model.config, tie_embeddings=True)), weights)
    assert rounded.lm_head is None
    assert rounded.head_weight is rounded.embedding.weight
    assert rounded.head_weight.dtype == torch.float32


def test_a_weight_is_the_nearest_of_its_rows_multiples() -> None:
    weight = torch.tensor([[1.0, -1.27, 0.004], [0.0, 0.0, 0.0]])
    linear = RoundedLinear(weight, torch.int8)
    assert linear.numbers.tolist() == [[100, -127, 0], [0, 0, 0]]
    torch.testing.assert_close(linear.weight, torch.tensor([[1.0, -1.27, 0.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(linear(torch.eye(3)), linear.weight.T)
    assert linear(torch.ones(1, 3))[0, 1] == 0


def test_weights_that_are_not_finite_are_not_hidden() -> None:
    for damaged in (float("nan"), float("inf")):
        linear = RoundedLinear(torch.tensor([[1.0, damaged], [1.0, 2.0]]), torch.int8)
        assert linear(torch.ones(1, 2)).isfinite().tolist() == [[False, True]]


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_hooks_stay_and_layers_of_others_are_left_alone(model: HNetLM, weights: Weights) -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    replaced = copy.deepcopy(model)
    assert replaced.lm_head is not None
    head = Doubled(*reversed(replaced.lm_head.weight.shape), bias=False)
    head.load_state_dict(replaced.lm_head.state_dict())
    replaced.lm_head = head
    seen: list[nn.Module] = []
    replaced.get_submodule("network.routing.q_proj").register_forward_hook(lambda module, _, __: seen.append(module))
    rounded = with_weights(replaced, weights)
    ids = torch.tensor([254, *TEXT])
    assert model.lm_head is not None
    expected = 2 * model.lm_head(with_weights(model, weights)(ids).hidden)  # a head that is not rounded
    torch.testing.assert_close(rounded(ids).logits, expected)
    assert [type(module) for module in seen] == [RoundedLinear]
