"""One update: the gradient does not depend on how it is computed, and AdamW is the one of a hand-written step."""

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from training_runs import TARGET_RATIOS, concatenate, make_batch, make_model

from hnet_lm.data import IGNORE_INDEX, Batch
from hnet_lm.losses import RatioLoss, next_byte_loss, ratio_loss
from hnet_lm.model import HNetLM
from hnet_lm.training import step
from hnet_lm.training.activation_checkpointing import recompute_blocks
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer, set_learning_rate
from hnet_lm.training.step import StepFigures, StepResult, update

ALONE = Ranks(0, 1, torch.device("cpu"))
NO_CLIPPING = 1e9


def run_update(
    model: HNetLM, batches: Sequence[Batch], optimizer: torch.optim.Optimizer | None = None, max_grad_norm: float = 1.0
) -> StepResult:
    ratios = TARGET_RATIOS[model.config.num_stages]
    optimizer = optimizer or build_optimizer(model, OptimizerConfig(), ratios)
    terms = [RatioLoss(tuple(ratios), False, weight=0.03)]
    return update(model, optimizer, batches, terms, max_grad_norm, torch.float32, ALONE)


def gradients(model: HNetLM) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def loss_of(model: HNetLM, batch: Batch) -> Tensor:
    """The training loss, from its definition."""
    out = model(batch.input_ids, batch.sequences)
    terms = zip(out.routings, TARGET_RATIOS[model.config.num_stages], strict=True)
    zero = torch.zeros(())
    return next_byte_loss(out.logits, batch.targets) + 0.03 * sum((ratio_loss(*term) for term in terms), zero)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("num_stages", [0, 1, 2])
def test_accumulated_gradient_is_the_mean_of_the_micro_batches(num_stages: int) -> None:
    batches = [make_batch([25, 15], seed=0), make_batch([1, 39], seed=1), make_batch([40], seed=2)]
    accumulated, by_hand = make_model(num_stages), make_model(num_stages)
    run_update(accumulated, batches, max_grad_norm=NO_CLIPPING)
    (sum(loss_of(by_hand, batch) for batch in batches) / 3).backward()
    assert_same(gradients(accumulated), gradients(by_hand))


@pytest.mark.parametrize("num_stages", [0, 1, 2])
def test_recomputed_activations_give_the_same_gradient(num_stages: int) -> None:
    plain, recomputed = make_model(num_stages), make_model(num_stages)
    recompute_blocks(recomputed)
    for model in (plain, recomputed):
        run_update(model, [make_batch([25, 15])], max_grad_norm=NO_CLIPPING)
    found, wanted = gradients(recomputed), gradients(plain)
    assert all(found[name].equal(gradient) for name, gradient in wanted.items())


def test_recomputing_keeps_less() -> None:
    """Bytes that autograd keeps between forward and backward."""
    kept = []
    for recompute in (False, True):
        model = make_model(1)
        if recompute:
            recompute_blocks(model)
        seen: list[int] = []

        def pack(tensor: Tensor, seen: list[int] = seen) -> Tensor:
            seen.append(tensor.nbytes)
            return tensor

        batch = make_batch([200])
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(batch.input_ids, batch.sequences)
        kept.append(sum(seen))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("num_stages", [0, 1, 2])
def test_packed_documents_give_the_gradient_of_separate_ones(num_stages: int) -> None:
    """The cross entropy's: each document in a batch of its own, weighed by its length."""
    documents = [make_batch([length], seed) for seed, length in enumerate((1, 40, 7, 16))]
    packed, separate = make_model(num_stages), make_model(num_stages)
    whole = concatenate(documents)
    next_byte_loss(packed(whole.input_ids, whole.sequences).logits, whole.targets).backward()
    for document in documents:
        logits = separate(document.input_ids, document.sequences).logits
        (next_byte_loss(logits, document.targets, "sum") / len(whole.targets)).backward()
    for found, wanted in zip(packed.parameters(), separate.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, atol=1e-6, rtol=1e-4)


def test_an_update_is_adamw_by_hand() -> None:
    """Three updates in float64: clipped, decay on matrices only, a rate a stage; against the step written out."""
    config = OptimizerConfig(lr=0.01, lr_multipliers=(3.0, 0.5), betas=(0.8, 0.9), eps=1e-6, weight_decay=0.2)
    max_grad_norm = 0.5
    model, by_hand = make_model(1).double(), make_model(1).double()
    optimizer = build_optimizer(model, config, TARGET_RATIOS[1])
    stages = model.parameter_stages()
    first = {name: torch.zeros_like(weight) for name, weight in by_hand.named_parameters()}
    second = {name: torch.zeros_like(weight) for name, weight in by_hand.named_parameters()}
    for number in (1, 2, 3):
        rate = config.lr / number
        batch = make_batch([30, 10], seed=number)
        set_learning_rate(optimizer, rate)
        result = run_update(model, [batch], optimizer, max_grad_norm)

        by_hand.zero_grad()
        loss_of(by_hand, batch).backward()
        found = gradients(by_hand)
        norm = torch.sqrt(sum((gradient.square().sum() for gradient in found.values()), torch.zeros(()).double()))
        assert norm > max_grad_norm, "nothing is clipped"
        assert result.grad_norm == pytest.approx(float(norm))
        with torch.no_grad():
            for name, weight in by_hand.named_parameters():
                gradient = found[name] * max_grad_norm / (norm + 1e-6)
                own_rate = rate * (3.0, 0.5)[stages[name]]
                first[name] = 0.8 * first[name] + 0.2 * gradient
                second[name] = 0.9 * second[name] + 0.1 * gradient**2
                unbiased_first = first[name] / (1 - 0.8**number)
                unbiased_second = second[name] / (1 - 0.9**number)
                is_matrix = name.endswith("_proj.weight") or ".fc" in name or name == "lm_head.weight"
                weight -= own_rate * (0.2 if is_matrix else 0.0) * weight
                weight -= own_rate * unbiased_first / (unbiased_second.sqrt() + 1e-6)
    for name, weight in by_hand.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), weight, atol=1e-9, rtol=1e-7, msg=name)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_multiplier_of_a_stage_changes_its_update_and_no_other(stage: int) -> None:
    """A multiplier that is only stored would change nothing."""
    moved = []
    for multiplier in (1.0, 2.0):
        model = make_model(2)
        start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        multipliers = [1.0, 1.0, 1.0]
        multipliers[stage] = multiplier
        config = OptimizerConfig(lr=1e-3, lr_multipliers=tuple(multipliers), weight_decay=0.0)
        optimizer = build_optimizer(model, config, TARGET_RATIOS[2])
        set_learning_rate(optimizer, 1e-3)
        run_update(model, [make_batch([60, 20])], optimizer)
        moved.append({name: weight.detach() - start[name] for name, weight in model.named_parameters()})
    for name, own in model.parameter_stages().items():
        factor = 2.0 if own == stage else 1.0
        torch.testing.assert_close(moved[1][name], factor * moved[0][name], atol=2e-7, rtol=1e-3, msg=name)


def test_the_figures_are_means_over_targets_and_batches() -> None:
    model, batches = make_model(2), [make_batch([25, 15], seed=0), make_batch([40], seed=1)]
    with torch.no_grad():
        outs = [model(batch.input_ids, batch.sequences) for batch in batches]
        entropies = [next_byte_loss(out.logits, batch.targets).item() for out, batch in zip(outs, batches, strict=True)]
    figures = StepFigures.gather(run_update(model, batches), ALONE)
    assert figures.cross_entropy == pytest.approx(sum(entropies) / 2, rel=1e-6)
    for stage, ratio in enumerate(TARGET_RATIOS[2]):
        terms = [ratio_loss(out.routings[stage], ratio).item() for out in outs]
        assert figures.ratio_losses[stage] == pytest.approx(sum(terms) / 2, rel=1e-6)
        routings = [out.routings[stage] for out in outs]
        is_boundary = torch.cat([routing.is_boundary for routing in routings])
        lengths = torch.cat(
            [
                torch.diff(routing.is_boundary.nonzero()[:, 0], append=torch.tensor([len(routing.is_boundary)]))
                for routing in routings
            ]
        ).double()
        chunks = figures.chunks[stage]
        assert chunks.boundary_fraction == pytest.approx(is_boundary.double().mean().item())
        assert chunks.mean_chunk_length == pytest.approx(lengths.mean().item())
        assert chunks.chunk_length_sd == pytest.approx(lengths.std(correction=0).item())
        prob = torch.cat([routing.boundary_prob for routing in routings]).mean().item()
        assert chunks.mean_boundary_prob == pytest.approx(prob, rel=1e-6)


def test_bits_per_byte_are_of_all_targets_per_byte_of_text() -> None:
    """Ends of documents are targets, and no bytes of text."""
    model = make_model(1)
    batch = dataclasses.replace(make_batch([25, 15]), num_bytes=32)
    with torch.no_grad():
        nats = next_byte_loss(model(batch.input_ids, batch.sequences).logits, batch.targets, "sum").item()
    figures = StepFigures.gather(run_update(model, [batch]), ALONE)
    assert figures.targets_per_byte == pytest.approx(40 / 32)
    assert figures.cross_entropy == pytest.approx(nats / 40, rel=1e-6)
    assert figures.bits_per_byte == pytest.approx(nats / math.log(2) / 32, rel=1e-6)


def masked(batch: Batch, seen: slice) -> Batch:
    """Only these positions have a target, as the answers of an instruction have."""
    targets = torch.full_like(batch.targets, IGNORE_INDEX)
    targets[seen] = batch.targets[seen]
    return dataclasses.replace(batch, targets=targets, num_bytes=int((targets != IGNORE_INDEX).sum()))


@pytest.mark.parametrize("num_stages", [0, 1])
def test_positions_without_a_target_do_not_count(num_stages: int) -> None:
    """The mean is over the targets of all micro-batches, of which each has another number, one has none."""
    whole = [make_batch([25, 15], seed=0), make_batch([40], seed=1), make_batch([1, 39], seed=2)]
    batches = [masked(whole[0], slice(5, 40)), masked(whole[1], slice(33, 36)), masked(whole[2], slice(0, 0))]
    trained, by_hand = make_model(num_stages), make_model(num_stages)
    result = run_update(trained, batches, max_grad_norm=NO_CLIPPING)
    nats, ratio = torch.zeros(()), torch.zeros(())
    for batch in batches:
        out = by_hand(batch.input_ids, batch.sequences)
        nats = nats + next_byte_loss(out.logits, batch.targets, "sum")
        terms = zip(out.routings, TARGET_RATIOS[num_stages], strict=True)
        ratio = ratio + sum((ratio_loss(*term) for term in terms), torch.zeros(()))
    (nats / 38 + 0.03 * ratio / 3).backward()
    assert_same(gradients(trained), gradients(by_hand))
    figures = StepFigures.gather(result, ALONE)
    assert figures.cross_entropy == pytest.approx(nats.item() / 38, rel=1e-6)
    assert figures.bits_per_byte == pytest.approx(nats.item() / 38 / math.log(2), rel=1e-6)


def test_an_update_without_any_target_is_skipped() -> None:
    model = make_model(1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    result = run_update(model, [masked(make_batch([40]), slice(0, 0))])
    assert not result.applied
    assert math.isnan(StepFigures.gather(result, ALONE).bits_per_byte)
    assert all(before[name].equal(weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(value: float) -> None:
    model = make_model(1)
    optimizer = build_optimizer(model, OptimizerConfig(), TARGET_RATIOS[1])
    batch = make_batch([40])
    assert run_update(model, [batch], optimizer).applied
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    moments = [{key: entry.clone() for key, entry in state.items()} for state in optimizer.state.values()]

    hook = model.network.register_forward_hook(lambda module, inputs, out: (out[0] * value, *out[1:]))
    assert not run_update(model, [batch], optimizer).applied
    hook.remove()
    assert all(weights[name].equal(weight) for name, weight in model.state_dict().items())
    for before, state in zip(moments, optimizer.state.values(), strict=True):
        assert all(before[key].equal(entry) for key, entry in state.items())
    assert run_update(model, [batch], optimizer).applied


def test_a_loss_that_is_not_finite_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though every gradient is."""
    model = make_model(1)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    plain = step.next_byte_loss
    monkeypatch.setattr(step, "next_byte_loss", lambda *arguments: plain(*arguments) + float("inf"))
    result = run_update(model, [make_batch([40])])
    assert result.grad_norm > 0
    assert not result.applied
    assert all(weights[name].equal(weight) for name, weight in model.state_dict().items())


def test_clipping_scales_down_and_never_up() -> None:
    loose, tight = make_model(1), make_model(1)
    for model, max_grad_norm in ((loose, NO_CLIPPING), (tight, 0.1)):
        run_update(model, [make_batch([40])], torch.optim.SGD(model.parameters(), 0.0), max_grad_norm)
    norm = nn.utils.get_total_norm(list(gradients(loose).values()))
    assert norm > 0.1
    assert nn.utils.get_total_norm(list(gradients(tight).values())).item() == pytest.approx(0.1, rel=1e-4)
    assert_same({name: gradient * norm / 0.1 for name, gradient in gradients(tight).items()}, gradients(loose))
