"""Targets that do not count: an update and a run on completions are what they would be without the masked positions."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from training_runs import make_batch, make_model, run_config, updates

import hnet_lm
from hnet_lm.data import IGNORE_INDEX
from hnet_lm.evaluation import ByteScorer, Passage
from hnet_lm.losses import RatioLoss, next_byte_loss
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.loop import train
from hnet_lm.training.metrics import read_metrics
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer
from hnet_lm.training.step import StepFigures, update

ALONE = Ranks(0, 1, torch.device("cpu"))


def test_loss_gradient_and_bits_per_byte_are_those_of_the_other_positions() -> None:
    """Against cross entropies of the kept positions alone, summed by hand over micro-batches of unequal masks."""
    batches = [make_batch([30, 12], seed=0), make_batch([20, 22], seed=1)]
    kept = [torch.zeros(42, dtype=torch.bool), torch.zeros(42, dtype=torch.bool)]
    kept[0][[3, 8, 9, 41]] = True
    kept[1][5:37] = True
    masked = [
        dataclasses.replace(batch, targets=torch.where(keep, batch.targets, IGNORE_INDEX), num_bytes=int(keep.sum()))
        for batch, keep in zip(batches, kept, strict=True)
    ]
    model = make_model(1)
    nats, total = torch.zeros(()), 36
    for batch, keep in zip(batches, kept, strict=True):
        logits = model(batch.input_ids, batch.sequences).logits[keep]
        nats = nats + next_byte_loss(logits, batch.targets[keep], "sum")
    (nats / total).backward()
    wanted = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    model = make_model(1)
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-9), [3.0])
    result = update(model, optimizer, masked, [RatioLoss((3.0,), weight=0.0)], 1e9, torch.float32, ALONE)
    figures = StepFigures.gather(result, ALONE)
    assert figures.cross_entropy == pytest.approx(float(nats) / total, rel=1e-5)
    assert figures.bits_per_byte == pytest.approx(float(nats) / total / math.log(2), rel=1e-5)
    for name, weight in model.named_parameters():
        if name in wanted:
            assert weight.grad is not None
            torch.testing.assert_close(weight.grad, wanted[name], atol=1e-6, rtol=1e-4)


def test_a_run_on_completions_learns_and_measures_them_alone(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"say {word} ", "completion": word * 3}) for word in ("ab", "cd", "ef")]
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    source = {"path": str(tmp_path / "tasks.jsonl"), "field": "completion", "prompt_field": "prompt"}
    validation = {"sources": [source], "sample_bytes": 0}
    config = run_config(tmp_path, data={"sources": [source]}, validation=validation, run={"num_steps": 3})
    state = train(config)
    assert 0 < state.bytes_seen < 3 * 96 / 1.5, "prompts do not count"
    assert len(updates(tmp_path / "run")) == 3
    (found,) = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" not in record]
    assert found["validation/num_bytes"] == 18

    passages = [Passage((word * 3).encode(), f"say {word} ".encode()) for word in ("ab", "cd", "ef")]
    nats = -sum(score.logprob for score in ByteScorer(hnet_lm.load(tmp_path / "run")).score(passages))
    assert found["validation/bits_per_byte"] == pytest.approx(nats / math.log(2) / 18, rel=1e-4)
