"""A model is plain PyTorch: its parts are called, wrapped parts take effect, and a chosen backend is the one that runs.

And what a caller hands over is taken rightly or refused: slots, cumulative lengths and states.
"""

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import plain_models
import pytest
import torch
from torch import Tensor, nn

from hnet_lm.model import HNetLM
from hnet_lm.ops import use_backend
from hnet_lm.ops.dispatch import op_names
from hnet_lm.sequences import Sequences
from hnet_lm.state import State
from hnet_lm.training.activation_checkpointing import recompute_blocks

LENGTHS = (10, 0, 30)
NAMES_BOTH = r"another model: .*conv has \(3, 160\) .* this model's has \(3, 144\)"
BYTE_BY_BYTE = Sequences.from_lengths([1, 1, 1])


@pytest.fixture
def model() -> HNetLM:
    return plain_models.hnet()


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(254, (sum(LENGTHS),))


@pytest.fixture
def seqs() -> Sequences:
    return Sequences.from_lengths(LENGTHS)


def read(model: HNetLM, ids: Tensor, lengths: tuple[int, ...] = LENGTHS) -> Any:
    """The state after these sequences."""
    return model(ids, Sequences.from_lengths(lengths), model.new_state(len(lengths))).state


# Parts are called


PARTS = ("in_proj", "out_proj", "norm", "conv", "mixer_norm", "qkv_proj", "fc1", "fc2", "mlp_norm")
PARTS += ("q_proj", "k_proj", "residual_proj", "lm_head", "embedding", "mixer", "mlp", "routing", "encoder", "decoder")


def count_calls(model: nn.Module) -> Counter[str]:
    calls: Counter[str] = Counter()
    for path, module in plain_models.parts(model, *PARTS).items():
        module.register_forward_hook(lambda *_, path=path: calls.update([path]))
    assert {path.rpartition(".")[2] for path in plain_models.parts(model, *PARTS)} == set(PARTS)
    return calls


def test_every_hook_fires_once_in_a_training_forward(model: HNetLM, ids: Tensor, seqs: Sequences) -> None:
    calls = count_calls(model)
    model(ids, seqs).logits.sum().backward()
    assert calls == dict.fromkeys(plain_models.parts(model, *PARTS), 1)


def test_every_hook_fires_once_in_a_step(model: HNetLM, ids: Tensor) -> None:
    state = read(model, ids)
    calls = count_calls(model)
    out = model(torch.tensor([1, 2, 3]), BYTE_BY_BYTE, state)
    assert out.routings[0].is_boundary.any()  # so the main network runs too
    assert calls == dict.fromkeys(plain_models.parts(model, *PARTS), 1)


def test_a_hook_may_change_what_a_part_returns(model: HNetLM, ids: Tensor, seqs: Sequences) -> None:
    """What a hook returns goes on through the model, as an intervention on activations needs it."""
    before = model(ids, seqs).logits
    for path, module in plain_models.parts(model, *plain_models.LINEAR, "lm_head", "residual_proj").items():
        handle = module.register_forward_hook(lambda _, __, y: 2 * y)
        assert not torch.allclose(model(ids, seqs).logits, before, atol=1e-3), path
        handle.remove()
    assert model(ids, seqs).logits.equal(before)


def test_backward_hooks_fire(model: HNetLM, ids: Tensor, seqs: Sequences) -> None:
    calls: Counter[str] = Counter()
    linear = plain_models.parts(model, *plain_models.LINEAR)
    for path, module in linear.items():
        module.register_full_backward_hook(lambda *_, path=path: calls.update([path]))
    model(ids, seqs).logits.sum().backward()
    assert calls == dict.fromkeys(linear, 1)


class LoRA(nn.Module):
    """W x + B A x, with a `weight` as a layer that looks at its neighbour's might expect one."""

    def __init__(self, base: nn.Linear, rank: int = 2):
        super().__init__()
        self.base = base
        self.A = nn.Parameter(torch.randn(rank, base.in_features) / 10)
        self.B = nn.Parameter(torch.randn(base.out_features, rank) / 10)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.A.T @ self.B.T


def wrap(model: nn.Module, wrapper: Callable[[nn.Linear], nn.Module]) -> None:
    for path in plain_models.parts(model, *plain_models.LINEAR):
        layer = model.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        model.set_submodule(path, wrapper(layer))


@pytest.mark.parametrize("name", plain_models.LINEAR)
def test_a_wrapped_layer_has_the_effect_of_what_it_computes(
    model: HNetLM, ids: Tensor, seqs: Sequences, name: str
) -> None:
    """As if B A had been added to the weight, in a training forward and in a step; not as if nothing were there."""
    before = model(ids, seqs).logits
    path = next(iter(plain_models.parts(model, name)))
    layer = model.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    lora = LoRA(layer)
    model.set_submodule(path, lora)
    wrapped, step = model(ids, seqs), model(torch.tensor([1, 2, 3]), BYTE_BY_BYTE, read(model, ids))
    assert not torch.allclose(wrapped.logits, before, atol=1e-3)
    model.set_submodule(path, layer)
    with torch.no_grad():
        layer.weight += lora.B @ lora.A
    torch.testing.assert_close(wrapped.logits, model(ids, seqs).logits, rtol=0, atol=1e-4)
    merged = model(torch.tensor([1, 2, 3]), BYTE_BY_BYTE, read(model, ids))
    torch.testing.assert_close(step.logits, merged.logits, rtol=0, atol=1e-4)


def test_wrapped_layers_train(model: HNetLM, ids: Tensor, seqs: Sequences) -> None:
    model.requires_grad_(False)
    wrap(model, LoRA)
    model(ids, seqs).logits.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(gradients) == 2 * len(plain_models.parts(model, *plain_models.LINEAR))
    assert all(grad is not None and grad.abs().max() > 0 for grad in gradients.values())


# The chosen backend runs


@pytest.fixture
def add_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Puts a file into the folder of an op while the program runs: a backend that counts its calls."""
    added = []

    def add(op: str) -> ModuleType:
        name = f"counted_{tmp_path.name}"
        (tmp_path / op).mkdir()
        (tmp_path / op / f"{name}.py").write_text(
            f"from hnet_lm.ops.{op} import reference\n\n"
            f"calls = []\n\n\n"
            f"def {op}(*arguments):\n    calls.append(arguments)\n    return reference.{op}(*arguments)\n"
        )
        package = importlib.import_module(f"hnet_lm.ops.{op}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / op)])
        importlib.invalidate_caches()
        added.append(f"{package.__name__}.{name}")
        return importlib.import_module(added[-1])

    yield add
    for module in added:
        del sys.modules[module]


def name_of(backend: ModuleType) -> str:
    return backend.__name__.rpartition(".")[2]


@pytest.mark.parametrize("op", op_names())
def test_a_backend_added_as_a_file_runs_inside_a_whole_model(
    model: HNetLM, ids: Tensor, seqs: Sequences, add_backend: Callable[[str], ModuleType], op: str
) -> None:
    before = model(ids, seqs)
    backend = add_backend(op)
    with use_backend(**{op: name_of(backend)}):
        out = model(ids, seqs)
    assert backend.calls
    torch.testing.assert_close(out.logits, before.logits, rtol=0, atol=1e-4)
    num_calls = len(backend.calls)
    model(ids, seqs)
    assert len(backend.calls) == num_calls  # not outside the block


def test_a_choice_holds_in_other_threads(
    model: HNetLM, ids: Tensor, seqs: Sequences, add_backend: Callable[[str], ModuleType]
) -> None:
    backend = add_backend("ssd")
    with ThreadPoolExecutor(1) as pool, use_backend(ssd=name_of(backend)):
        pool.submit(model, ids, seqs).result()
    assert len(backend.calls) == len(plain_models.parts(model, "in_proj"))


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same thread", "another thread"])
def test_a_choice_holds_for_a_block_that_is_recomputed_after_it_ended(
    model: HNetLM, ids: Tensor, seqs: Sequences, add_backend: Callable[[str], ModuleType], elsewhere: bool
) -> None:
    backend = add_backend("ssd")
    recompute_blocks(model)
    with use_backend(ssd=name_of(backend)):
        loss = model(ids, seqs).logits.sum()
    in_forward = len(backend.calls)
    if elsewhere:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(loss.backward).result()
    else:
        loss.backward()
    assert in_forward == len(plain_models.parts(model, "in_proj"))
    assert len(backend.calls) == 2 * in_forward


def test_recomputing_blocks_changes_no_gradient(model: HNetLM, ids: Tensor, seqs: Sequences) -> None:
    def gradients() -> list[Tensor]:
        loss = model(ids, seqs).logits.square().mean()
        return list(torch.autograd.grad(loss, list(model.parameters())))

    kept = gradients()
    recompute_blocks(model)
    for grad, expected in zip(gradients(), kept, strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-6)


# Slots, lengths, states


def step(model: HNetLM, state: State, slots: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits of one step of three sequences that own these slots, and of one more step of all eight."""
    out = model(torch.tensor([10, 20, 30]), Sequences.from_lengths([1, 1, 1], slots), state)
    later = model(torch.arange(8), Sequences.from_lengths([1] * 8), out.state)
    return out.logits, later.logits


@pytest.mark.parametrize(
    "slots",
    [
        torch.arange(8)[1:7:2],
        torch.tensor([1, 3, 5], dtype=torch.int32),
        torch.tensor([[1, 0], [3, 0], [5, 0]])[:, 0],
        torch.tensor([1, 1, 3, 3, 5, 5], dtype=torch.int32)[::2],
    ],
    ids=["strided", "int32", "a column", "strided int32"],
)
@torch.no_grad()
def test_slots_of_any_layout_are_the_slots_they_say(model: HNetLM, slots: Tensor) -> None:
    ids = torch.randint(254, (40,))
    state = read(model, ids, (5,) * 8)
    expected = step(model, state.clone(), torch.tensor([1, 3, 5]))
    for logits, wanted in zip(step(model, state, slots), expected, strict=True):
        torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([0, 1, 8], "slot 8 is out of range for a state of 8 slots"),
        ([0, 1, 2**40], f"slot {2**40} is out of range"),
        ([0, -1, 2], "0 or more"),
        ([0, 2, 2], "each owned by one sequence"),
        ([0, 1], "2 slots are given for 3 sequences"),
        (None, "3 sequences but a state of 8 slots"),
    ],
    ids=str,
)
def test_slots_that_do_not_exist_are_refused(model: HNetLM, slots: list[int] | None, message: str) -> None:
    """And the state is as good as before."""
    state = read(model, torch.randint(254, (40,)), (5,) * 8)
    with pytest.raises(ValueError, match=message):
        step(model, state, None if slots is None else torch.tensor(slots))
    assert step(model, state, torch.tensor([1, 3, 5]))[0].isfinite().all()


def test_a_state_of_another_model_is_refused(model: HNetLM, seqs: Sequences, ids: Tensor) -> None:
    other = plain_models.hnet(d_state=16)
    with pytest.raises(ValueError, match=NAMES_BOTH):
        model(ids, seqs, other.new_state(3))
    with pytest.raises(ValueError, match=NAMES_BOTH):
        model.encode(ids, seqs, other.new_state(3))
    with pytest.raises(ValueError, match="another model"):
        model(ids, seqs, plain_models.isotropic().new_state(3))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int64], ids=str)
def test_cumulative_lengths_of_any_whole_type(model: HNetLM, seqs: Sequences, ids: Tensor, dtype: torch.dtype) -> None:
    wide = torch.stack([seqs.cu_seqlens.to(dtype)] * 2, 1)
    given = Sequences(wide[:, 0])
    assert given.cu_seqlens.dtype == torch.int64
    torch.testing.assert_close(model(ids, given).logits, model(ids, seqs).logits, rtol=0, atol=0)


def test_a_mask_does_not_select(model: HNetLM) -> None:
    state = model.new_state(3)
    for mask in (torch.tensor([True, False, True]), [True, False, True]):
        with pytest.raises(ValueError, match=r"mask\.nonzero"):
            state.select(mask)
    assert state.select(torch.tensor([2, 0], dtype=torch.int32)).num_sequences == 2


@pytest.mark.parametrize(
    "path",
    ["", "network", "network.routing", "network.encoder", "network.encoder.blocks.0.mixer"],
)
def test_a_state_is_used_once(model: HNetLM, seqs: Sequences, ids: Tensor, path: str) -> None:
    part: Any = model.get_submodule(path)
    x = torch.randn(sum(LENGTHS), 32) if path else ids
    state = part.new_state(3)
    kept = state.clone()
    part(x, seqs, state)
    for again in (lambda: part(x, seqs, state), state.clone, lambda: state.select([0])):
        with pytest.raises(ValueError, match=r"consumed .*clone\(\)"):
            again()
    part(x, seqs, kept)


def test_encoding_uses_a_state_once(model: HNetLM, seqs: Sequences, ids: Tensor) -> None:
    state = model.new_state(3)
    model.encode(ids, seqs, state)
    with pytest.raises(ValueError, match=r"consumed .*clone\(\)"):
        model(ids, seqs, state)
