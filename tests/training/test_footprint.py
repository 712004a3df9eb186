"""What a plan says of memory is what real models save and what FSDP shards."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from training_runs import architecture, make_batch, make_model, run_config

from hnet_lm.cli.main import main
from hnet_lm.losses import next_byte_loss
from hnet_lm.training.activations import storages_saved
from hnet_lm.training.footprint import Footprint, footprint
from hnet_lm.training.sharding import shard
from hnet_lm.weights import meta_model

POSITIONS = 512


def plan_of(folder: Path, num_stages: int, chunks: list[float], num_ranks: int = 1, **tables: dict) -> Footprint:
    tables = {"data": {"tokens_per_batch": POSITIONS, "max_length": 64, "streams": 4, "shuffle_bytes": 1000}, **tables}
    run = run_config(folder, num_stages, **tables)
    return footprint(run, architecture(num_stages), chunks, torch.float32, num_ranks)


@pytest.mark.parametrize("num_stages", [0, 1, 2])
def test_activations_are_what_a_model_saves(tmp_path: Path, num_stages: int) -> None:
    """Chunks are as long as this model makes them."""
    model, batch = make_model(num_stages), make_batch([64] * (POSITIONS // 64))
    with storages_saved() as saved:
        out = model(batch.input_ids, batch.sequences)
        next_byte_loss(out.logits, batch.targets)
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    size = sum(storage.nbytes() for key, storage in saved.items() if key not in parameters)
    chunks = [POSITIONS / int(routing.is_boundary.sum()) for routing in out.routings]
    assert plan_of(tmp_path, num_stages, chunks).activations == pytest.approx(size, rel=0.1)


@pytest.mark.parametrize("num_ranks", [8, 256])
def test_shares_are_those_of_fsdp(tmp_path: Path, num_ranks: int) -> None:
    """On torch's fake process group; no rank has more than the first."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=num_ranks)
    try:
        model = meta_model(architecture(1))
        shard(model, torch.bfloat16)
        share = sum(parameter.to_local().numel() for parameter in model.parameters())
    finally:
        dist.destroy_process_group()
    plan = plan_of(tmp_path, 1, [3.0], num_ranks, distributed={"strategy": "fsdp"})
    assert plan.weights == 4 * share
    assert plan.moments == 8 * share
    assert plan.weights < plan_of(tmp_path, 1, [3.0], num_ranks).weights


def test_what_a_configuration_changes(tmp_path: Path) -> None:
    plain = plan_of(tmp_path, 1, [3.0])
    parameters = sum(parameter.numel() for parameter in make_model(1).parameters())
    assert (plain.weights, plain.gradients, plain.moments) == (4 * parameters, 4 * parameters, 8 * parameters)
    assert plain.network_per_step == 0
    recomputed = plan_of(tmp_path, 1, [3.0], run={"activation_checkpointing": True, "num_steps": 6})
    assert recomputed.activations == plain.activations
    assert recomputed.peak < plain.peak
    ranks = plan_of(tmp_path, 1, [3.0], 4, run={"accumulation": 2, "num_steps": 6})
    assert ranks.positions_per_step == 8 * POSITIONS == 8 * plain.positions_per_step
    assert ranks.flops_per_step == pytest.approx(8 * plain.flops_per_step)
    assert ranks.network_per_step == pytest.approx(2 * 3 / 4 * 4 * parameters)
    assert ranks.data == pytest.approx(plain.data / 4)


def test_the_command_warns_of_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "hnet_missing.toml"]
    assert main(arguments) == 2
    large = ["plan", "large_1stage", "--gpus", "12", "--gpu", "rtx4090", "--distributed.strategy", "ddp", "--json"]
    capsys.readouterr()
    assert main([*large, "--run.no-activation-checkpointing"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["positions_per_step"] == 12 * 2 * 65536
    assert found["weights"] == 4 * 679_405_312
    assert found["hours"] == pytest.approx(found["seconds_per_step"] * 218_000 / 3600)
    fits, streams = found["warnings"]
    assert "it does not fit into 21.6 GB of rtx4090: run.activation_checkpointing = true saves" in fits
    assert 'distributed.strategy = "fsdp"' in fits
    assert "data.streams = 32 is no multiple of 12 ranks" in streams
