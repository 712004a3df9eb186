"""Libraries that replace or wrap the linear layers of any PyTorch model: peft, torchao, torch's parametrizations."""

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plain_models
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hnet_lm.losses import next_byte_loss
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences

peft: Any = pytest.importorskip("peft")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchao's own, about kernels of GPUs
    torchao: Any = pytest.importorskip("torchao.quantization")

LENGTHS = (10, 0, 30)
MODELS = {"isotropic": plain_models.isotropic, "one stage": plain_models.hnet}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> HNetLM:
    return MODELS[request.param]()


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(254, (sum(LENGTHS),))


def logits_of(model: Any, ids: Tensor) -> Tensor:
    return model(ids, Sequences.from_lengths(LENGTHS)).logits


@torch.no_grad()
def decoded(model: Any, ids: Tensor) -> Tensor:
    """The same logits, from a prefill and single bytes."""
    seqs = Sequences.from_lengths([10, 28])
    out = model(torch.cat([ids[:10], ids[10:38]]), seqs, model.new_state(2))
    logits = [out.logits]
    for t in range(38, 40):
        out = model(ids[t : t + 1], Sequences.from_lengths([0, 1]), out.state)
        logits.append(out.logits)
    return torch.cat(logits)


# LoRA


def with_lora(model: HNetLM) -> Any:
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=list(plain_models.LINEAR), init_lora_weights=False)
    return peft.get_peft_model(model, config)


def test_lora_changes_logits_and_merges_to_the_same(model: HNetLM, ids: Tensor) -> None:
    before = logits_of(model, ids)
    adapted = with_lora(model)
    wrapped = logits_of(adapted, ids)
    assert not torch.allclose(wrapped, before, atol=1e-2)
    torch.testing.assert_close(decoded(model, ids), wrapped, rtol=0, atol=1e-4)
    with adapted.disable_adapter():
        torch.testing.assert_close(logits_of(adapted, ids), before, rtol=0, atol=1e-5)
    merged = adapted.merge_and_unload()
    assert type(merged) is HNetLM
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    torch.testing.assert_close(logits_of(merged, ids), wrapped, rtol=0, atol=1e-4)


def test_lora_trains_its_weights_and_no_others(model: HNetLM, ids: Tensor) -> None:
    adapted = with_lora(model)
    kept = {name: parameter.clone() for name, parameter in adapted.named_parameters()}
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * len(plain_models.parts(model, *plain_models.LINEAR))
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = next_byte_loss(logits_of(adapted, ids)[:-1], ids[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    for name, parameter in adapted.named_parameters():
        assert parameter.equal(kept[name]) == (name not in trained), name
        assert (parameter.grad is not None and parameter.grad.abs().max() > 0) == (name in trained), name


def test_lora_is_saved_and_loaded(model: HNetLM, ids: Tensor, tmp_path: Path) -> None:
    base = copy.deepcopy(model)
    adapted = with_lora(model)
    adapted.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(logits_of(loaded, ids), logits_of(adapted, ids), rtol=0, atol=0)


# Quantised weights


QUANTISED = {"int8": torchao.Int8WeightOnlyConfig, "float8": torchao.Float8WeightOnlyConfig}


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_weights_are_used(model: HNetLM, ids: Tensor, kind: str) -> None:
    """Equal to the model with the rounded weights themselves, so what differs is the rounding and nothing else."""
    before = logits_of(model, ids).detach()
    torchao.quantize_(model, QUANTISED[kind](), lambda _, path: path.rpartition(".")[2] in plain_models.LINEAR)
    after = logits_of(model, ids).detach()
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(decoded(model, ids), after, rtol=0, atol=1e-4)
    for path in plain_models.parts(model, *plain_models.LINEAR):
        layer = model.get_submodule(path)
        rounded = nn.Linear(layer.in_features, layer.out_features, bias=False)
        rounded.weight.data.copy_(layer.weight.dequantize())
        model.set_submodule(path, rounded)
    torch.testing.assert_close(logits_of(model, ids), after, rtol=0, atol=1e-4)


# Parametrizations, types and copies


@pytest.mark.parametrize("parametrization", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrizations_of_a_weight(model: HNetLM, ids: Tensor, parametrization: Callable[..., Any]) -> None:
    """What a parametrization makes of the weight is what the layer multiplies by; its own parameters get gradients."""
    layer = model.get_submodule(next(iter(plain_models.parts(model, "in_proj"))))
    parametrization(layer)
    model.eval()  # spectral norm otherwise iterates at every access
    with torch.no_grad():
        originals = layer.parametrizations.weight
        next(iter(originals.parameters())).mul_(1.5)
    after = logits_of(model, ids)
    after.square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in originals.parameters())
    weight = layer.weight.detach().clone()
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    layer.weight = nn.Parameter(weight)
    torch.testing.assert_close(logits_of(model, ids), after, rtol=0, atol=1e-5)


def test_a_model_in_bfloat16(model: HNetLM, ids: Tensor) -> None:
    """Rounding may flip a boundary, after which an H-Net's logits differ; so only a stack's are compared."""
    expected = logits_of(model, ids)
    logits = logits_of(model.to(torch.bfloat16), ids)
    assert logits.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    if not model.config.num_stages:
        torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.15)
    assert decoded(model, ids).isfinite().all()


def test_a_copy_is_equal_and_independent(model: HNetLM, ids: Tensor) -> None:
    before = logits_of(model, ids)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert logits_of(model, ids).equal(before)
    assert not logits_of(twin, ids).any()


def test_weights_survive_pickling(model: HNetLM, ids: Tensor) -> None:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = HNetLM(model.config)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert logits_of(other, ids).equal(logits_of(model, ids))


def test_a_whole_model_survives_pickling(model: HNetLM, ids: Tensor) -> None:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert logits_of(torch.load(file, weights_only=False), ids).equal(logits_of(model, ids))
