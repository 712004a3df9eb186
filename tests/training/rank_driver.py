"""Runs one thing after another on several ranks (gloo, CPU); a script with a JSON file that says what to do.

torch is imported once and every rank is a fork, so that many small runs with many groups of ranks cost little. Each
item names an action below, its number of ranks, and what the action takes; a rank that an item does not need goes on
to the next one and waits there for the others.
"""

import dataclasses
import faulthandler
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from training_runs import make_batch, make_model

from hnet_lm.losses import RatioLoss
from hnet_lm.model.block import Block
from hnet_lm.tables import from_table
from hnet_lm.training import checkpoints, records, start, validation
from hnet_lm.training.checkpoints import CheckpointStore
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks, ranks
from hnet_lm.training.loop import train
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer
from hnet_lm.training.restoring import read_share
from hnet_lm.training.sections import DistributedConfig
from hnet_lm.training.sharding import distribute
from hnet_lm.training.step import StepFigures, update
from hnet_lm.training.validation import Validator
from hnet_lm.weights import read_safetensors

HANGS_AFTER = 120  # seconds an item may take; then every rank prints where it is


def run(table: dict[str, Any], copy_from: str = "", allow_changes: bool = False) -> None:
    """Train a run, or go on with a copy of another."""
    if copy_from and os.environ["RANK"] == "0":
        shutil.copytree(copy_from, table["run"]["directory"])
    table["run"] = {key: value for key, value in table["run"].items() if value is not None}
    train(from_table(RunConfig, table), allow_changes=allow_changes)


def one_update(
    output: str,
    strategy: Any,
    num_stages: int,
    ratios: list[float],
    over_all_ranks: bool,
    lengths: list[list[int]],
    precision: str = "float32",
) -> None:
    """One update, each rank with a batch of sequences of its own lengths; writes loss terms and weights."""
    ratio_loss = RatioLoss(tuple(ratios), over_all_ranks, weight=0.5)
    with ranks() as group:
        found = _update(strategy, num_stages, ratio_loss, lengths[group.rank], getattr(torch, precision), group)
        if group.is_first:
            torch.save(found, output)


def _update(
    strategy: Any, num_stages: int, ratio_loss: RatioLoss, lengths: list[int], precision: torch.dtype, group: Ranks
) -> dict[str, Any]:
    model = make_model(num_stages)
    network = distribute(model, DistributedConfig(strategy), group, precision)
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-2, eps=1e-3), ratio_loss.target_ratios)
    batch = make_batch(lengths, seed=group.rank)
    result = update(network, optimizer, [batch], [ratio_loss], 1.0, precision, group)
    gathered = StepFigures.gather(result, group)
    figures = dataclasses.asdict(gathered) | {"ratio_losses": gathered.ratio_losses, "grad_norm": result.grad_norm}
    return {"figures": figures, "weights": {name: _whole(weight) for name, weight in model.named_parameters()}}


def types_in_blocks(output: str) -> None:
    """The types of what enters the blocks of a sharded model in bfloat16, and of what its attention computes."""
    seen = {"stream": set(), "mixer": set(), "logits": set()}
    with ranks() as group:
        model = make_model(1)
        for module in model.modules():
            if isinstance(module, Block):
                module.register_forward_hook(
                    lambda _, inputs, out: seen["stream"].update({inputs[0].dtype, out[0].dtype})
                )
                module.mixer.register_forward_hook(lambda _, inputs, out: seen["mixer"].add(out[0].dtype))
        network = distribute(model, DistributedConfig("fsdp"), group, torch.bfloat16)
        batch = make_batch([40])
        with torch.autocast("cpu", torch.bfloat16):
            seen["logits"].add(network(batch.input_ids, batch.sequences).logits.dtype)
        if group.is_first:
            Path(output).write_text(json.dumps({key: sorted(map(str, types)) for key, types in seen.items()}))


def _whole(parameter: Any) -> torch.Tensor:
    return (parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter).detach().clone()


def start_and_validate(table: dict[str, Any], output: str) -> None:
    """The weights that a run starts with, which only the first rank draws, and its validation."""
    config = from_table(RunConfig, table)
    with ranks() as group:
        found = _start_and_validate(config, group)
        if group.is_first:
            torch.save(found, output)


def _start_and_validate(config: RunConfig, group: Ranks) -> dict[str, Any]:
    is_sharded = config.distributed.strategy == "fsdp" and group.num_ranks > 1
    drawn, score, generate = start._make_model, Validator._score, validation.generate
    if is_sharded and not group.is_first:
        start._make_model = _only_on_the_first
    if not group.is_first:
        validation.generate = _only_on_the_first
        Validator._score = lambda self, number, texts: (score(self, number, texts), score(self, number, texts))[0]
    try:
        model, _, precision, _ = start.open_model(config, group)
        shares = sum(_local(weight).numel() for weight in model.parameters())
        weights = {name: _whole(weight) for name, weight in model.named_parameters()}
        measured = Validator(model, config.for_model(model.config), group, precision).measure()
        after = [_whole(weight) for weight in model.parameters()]
    finally:
        start._make_model, Validator._score, validation.generate = drawn, score, generate
    return {
        "weights": weights,
        "share": shares / sum(weight.numel() for weight in weights.values()),
        "random": torch.get_rng_state(),
        "measured": measured.record(),
        "unchanged": all(a.equal(b) for a, b in zip(weights.values(), after, strict=True)),
    }


def _only_on_the_first(*_: Any, **options: Any) -> Any:
    raise AssertionError("this is the first rank's to do")


def restore_shares(checkpoint: str) -> None:
    """Each rank reads a file in which all but its own share of the weights is damaged; only the first checks files."""
    with ranks() as group:
        _restore_shares(Path(checkpoint), group)


def _restore_shares(path: Path, group: Ranks) -> None:
    model = make_model(1, seed=1)
    distribute(model, DistributedConfig("fsdp"), group, torch.float32)
    whole = read_safetensors(path / "model.safetensors")
    own = {}
    for name, weight in whole.items():
        size = -(-len(weight) // group.num_ranks)
        own[name] = torch.full_like(weight, torch.nan)
        rows = slice(group.rank * size, (group.rank + 1) * size)
        own[name][rows] = weight[rows]
    damaged = path.parent / f"of_{group.rank}.safetensors"
    save_file(own, damaged)
    read_share(damaged, model)
    assert all(_whole(weight).equal(whole[name]) for name, weight in model.named_parameters())
    find_damage = checkpoints.find_damage
    if not group.is_first:
        checkpoints.find_damage = _only_on_the_first
    assert CheckpointStore(path.parent, group).newest() == (path, [])
    checkpoints.find_damage = find_damage


def _local(parameter: Any) -> torch.Tensor:
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


ACTIONS: dict[str, Callable[..., None]] = {
    action.__name__: action for action in (run, one_update, types_in_blocks, start_and_validate, restore_shares)
}


def be_rank(rank: int, items: list[dict[str, Any]]) -> None:
    """A rank that has no part in some items waits for the others at its next one."""
    num_waited_for = 0
    for item in items:
        action, num_ranks, port = item.pop("action"), item.pop("num_ranks"), item.pop("port")
        num_waited_for += 1
        if rank < num_ranks:
            faulthandler.dump_traceback_later(HANGS_AFTER * num_waited_for, exit=True)
            num_waited_for = 0
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.environ.update(where, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_ranks))
            ACTIONS[action](**item)
            faulthandler.cancel_dump_traceback_later()


def fork(rank: int, items: list[dict[str, Any]]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        be_rank(rank, items)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main(items: list[dict[str, Any]]) -> int:
    torch.set_num_threads(1)
    records.matmul_peak = lambda *_: 1e9  # measured for seconds in bfloat16 where the CPU has no instructions for it
    children = {fork(rank, items) for rank in range(max(item["num_ranks"] for item in items))}
    while children:
        pid, status = os.wait()
        children.remove(pid)
        if status:  # the others would wait for it; a little later, for what they have to say
            time.sleep(1)
            for other in children:
                os.kill(other, signal.SIGKILL)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
