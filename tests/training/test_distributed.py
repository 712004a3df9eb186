"""Two and three ranks, DDP and FSDP2: the run is the one of one process that sees the same global batches."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import TARGET_RATIOS, concatenate, losses, make_batch, make_model, run_table, updates, weights

from hnet_lm.losses import RatioLoss
from hnet_lm.model import HNetLM
from hnet_lm.training.averages import AVERAGES
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer
from hnet_lm.training.step import StepFigures, StepResult, update
from hnet_lm.weights import read_safetensors

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

DRIVER = Path(__file__).with_name("rank_driver.py")
ALONE = Ranks(0, 1, torch.device("cpu"))
STRATEGIES = ("ddp", "fsdp")
NUM_STEPS, RESUMED_STEPS, LONG_STEPS = 3, 5, 12
# Of the ranks' sequences, equally many positions; in `uneven` one rank sees bytes without a neighbour, all boundaries.
LENGTHS = {"mixed": [[30, 2, 1], [9, 24]], "uneven": [[1] * 33, [33]]}


class Plan:
    """What the driver is to do, in order."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.items: list[dict[str, Any]] = []

    def run(
        self, name: str, num_ranks: int, strategy: str, num_stages: int = 1, copy_from: str = "", **tables: Any
    ) -> None:
        """A run `name`; `copy_from`: go on where another one ended."""
        steps = RESUMED_STEPS if copy_from else NUM_STEPS
        table = run_table(
            self.folder,
            num_stages,
            name,
            **{
                "run": {"num_steps": steps, **tables.pop("run", {})},
                "optimizer": {"lr": 2e-3, "eps": 1e-4},
                "schedule": {"warmup": 0.0, "decay": 0.0},
                "distributed": {"strategy": strategy},
                "checkpoints": {"every": 100},
                **tables,
            },
        )
        source = str(self.folder / copy_from) if copy_from else ""
        self.add("run", num_ranks, table=table, copy_from=source, allow_changes=bool(copy_from))

    def update(
        self, name: str, strategy: str, num_stages: int, over_all_ranks: bool, lengths: str = "mixed", **arguments: Any
    ) -> None:
        """One update of two ranks, written to `name.pt`."""
        arguments |= {"num_stages": num_stages, "ratios": TARGET_RATIOS[num_stages], "over_all_ranks": over_all_ranks}
        output = str(self.folder / f"{name}.pt")
        self.add("one_update", 2, output=output, strategy=strategy, lengths=LENGTHS[lengths], **arguments)

    def start(self, name: str, num_ranks: int, strategy: str, precision: str) -> None:
        """A run that only starts and validates, written to `name.pt`."""
        table = run_table(
            self.folder,
            name="unused",
            run={"precision": precision},
            distributed={"strategy": strategy},
            validation={
                "sources": [{"path": str(self.folder / "corpus.jsonl")}],
                "context": 32,
                "sample_prompt": "a",
                "sample_bytes": 4,
            },
        )
        self.add("start_and_validate", num_ranks, table=table, output=str(self.folder / f"{name}.pt"))

    def add(self, action: str, num_ranks: int, **arguments: Any) -> None:
        self.items.append({"action": action, "num_ranks": num_ranks, **arguments})

    def carry_out(self) -> None:
        for item, port in zip(self.items, _free_ports(len(self.items)), strict=True):
            item["port"] = port
        file = self.folder / "items.json"
        file.write_text(json.dumps(self.items))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, str(DRIVER), str(file)]
        driver = subprocess.Popen(
            arguments,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = driver.communicate(timeout=800)
        except subprocess.TimeoutExpired:
            os.killpg(driver.pid, signal.SIGKILL)
            raise
        assert driver.returncode == 0, output


def _free_ports(number: int) -> list[int]:
    """Below the range from which the system gives ports to connections, the ranks' own among them."""
    ports = []
    for port in random.Random(os.getpid()).sample(range(20_000, 32_000), 1000):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            ports.append(port)
    return ports[:number]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs, made by one group of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    plan = Plan(folder)
    for num_stages in (1, 2):
        for num_ranks in (2, 3):
            plan.run(f"alone_{num_stages}_{num_ranks}", 1, "ddp", num_stages, run={"accumulation": num_ranks})
            for strategy in STRATEGIES:
                plan.run(f"{strategy}_{num_stages}_{num_ranks}", num_ranks, strategy, num_stages)
    plan.run("alone_accumulating", 1, "ddp", run={"accumulation": 4})
    for strategy in STRATEGIES:
        plan.run(f"{strategy}_accumulating", 2, strategy, run={"accumulation": 2})
    for num_ranks in (1, 3):
        plan.run(f"alone_to_{num_ranks}", 1, "ddp", copy_from="alone_1_2", run={"accumulation": num_ranks})
        for before, after in (("ddp", "ddp"), ("fsdp", "fsdp"), ("ddp", "fsdp"), ("fsdp", "ddp")):
            plan.run(f"{before}_to_{after}_{num_ranks}", num_ranks, after, copy_from=f"{before}_1_2")
    for strategy in STRATEGIES:
        plan.run(f"{strategy}_recomputed", 2, strategy, run={"activation_checkpointing": True})
        plan.run(f"{strategy}_frozen", 2, strategy, model={"freeze": ["embedding.*", "network.encoder.*"]})
        for num_stages in (1, 2):
            for lengths in LENGTHS:
                plan.update(f"{strategy}_{num_stages}_{lengths}", strategy, num_stages, True, lengths)
        plan.update(f"{strategy}_each_rank", strategy, 2, over_all_ranks=False)
        plan.update(f"{strategy}_bfloat16", strategy, 1, over_all_ranks=False, precision="bfloat16")
    averaged = {"lr": 2e-3, "eps": 1e-4, "average": 0.8}
    plan.run("alone_averaged", 1, "ddp", run={"accumulation": 2}, optimizer=averaged)
    for strategy in STRATEGIES:
        plan.run(f"{strategy}_averaged", 2, strategy, optimizer=averaged)
    for name, num_ranks in (("alone", 1), ("ddp", 2)):
        run = {"accumulation": 3 - num_ranks}
        plan.run(f"{name}_muon", num_ranks, "ddp", run=run, optimizer={"name": "muon", "lr": 2e-3, "eps": 1e-4})
    in_background = {"every": 1, "background": True}
    for strategy in STRATEGIES:
        plan.run(f"{strategy}_background", 2, strategy, checkpoints=in_background)
        plan.run(f"{strategy}_background_to_1", 1, "ddp", copy_from=f"{strategy}_background")
    plan.run("ddp_minutes", 2, "ddp", run={"num_steps": None, "minutes": 0.01})
    plan.add("types_in_blocks", 2, output=str(folder / "types.json"))
    in_bfloat16 = {"num_steps": LONG_STEPS, "precision": "bfloat16"}
    plan.run("alone_rounded", 1, "ddp", run={**in_bfloat16, "accumulation": 3})
    for strategy in STRATEGIES:
        plan.run(f"{strategy}_rounded", 3, strategy, run=in_bfloat16)
        for precision in ("float32", "bfloat16"):
            for num_ranks in (1, 2, 3):
                plan.start(f"{strategy}_{precision}_{num_ranks}_start", num_ranks, strategy, precision)
    plan.add("restore_shares", 2, checkpoint=str(folder / "fsdp_1_2" / "checkpoints" / f"step_{NUM_STEPS:08d}"))
    plan.carry_out()
    return folder


def assert_same_run(run: Path, wanted: Path) -> None:
    """The same losses and final weights, within float32."""
    assert losses(run) == pytest.approx(losses(wanted), abs=1e-5)
    for name, tensor in weights(wanted).items():
        torch.testing.assert_close(weights(run)[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("num_stages", [1, 2])
@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ranks_equal_one_process(folder: Path, strategy: str, num_ranks: int, num_stages: int) -> None:
    run, alone = folder / f"{strategy}_{num_stages}_{num_ranks}", folder / f"alone_{num_stages}_{num_ranks}"
    assert_same_run(run, alone)
    for record, wanted in zip(updates(run), updates(alone), strict=True):
        for key in ("grad_norm", "stage0/ratio_loss", "stage0/bytes_per_chunk", "stage0/mean_boundary_prob"):
            assert record[key] == pytest.approx(wanted[key], rel=1e-4)
        assert record["bytes_seen"] == wanted["bytes_seen"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ranks_that_accumulate_equal_one_process(folder: Path, strategy: str) -> None:
    assert_same_run(folder / f"{strategy}_accumulating", folder / "alone_accumulating")


@pytest.mark.parametrize("num_ranks", [1, 3])
@pytest.mark.parametrize("change", ["ddp_to_ddp", "fsdp_to_fsdp", "ddp_to_fsdp", "fsdp_to_ddp"])
def test_saved_with_two_ranks_and_resumed_with_others(folder: Path, change: str, num_ranks: int) -> None:
    run = folder / f"{change}_{num_ranks}"
    assert list(losses(run)) == list(range(1, RESUMED_STEPS + 1))
    assert_same_run(run, folder / f"alone_to_{num_ranks}")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_checkpoints_of_ranks_written_in_the_background(folder: Path, strategy: str) -> None:
    """One for each step, written while the next one is made; the last one is as good as any to go on from."""
    assert_same_run(folder / f"{strategy}_background", folder / "alone_1_2")
    assert_same_run(folder / f"{strategy}_background_to_1", folder / "alone_to_1")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_recomputed_blocks_change_nothing(folder: Path, strategy: str) -> None:
    assert_same_run(folder / f"{strategy}_recomputed", folder / f"{strategy}_1_2")


def test_frozen_parts_stay(folder: Path) -> None:
    assert_same_run(folder / "fsdp_frozen", folder / "ddp_frozen")
    start = make_model(1).state_dict()
    for name, tensor in weights(folder / "fsdp_frozen").items():
        assert tensor.equal(start[name]) == name.startswith(("embedding.", "network.encoder.")), name


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_averages_are_those_of_one_process(folder: Path, strategy: str) -> None:
    """They are what is published; the weights that training goes on from are others."""
    assert_same_run(folder / f"{strategy}_averaged", folder / "alone_averaged")
    last = folder / f"{strategy}_averaged" / "checkpoints" / f"step_{NUM_STEPS:08d}"
    averaged = read_safetensors(last / AVERAGES)
    assert all(tensor.equal(averaged[name]) for name, tensor in weights(folder / f"{strategy}_averaged").items())
    assert any(not tensor.equal(averaged[name]) for name, tensor in weights(last).items())


def test_muon_on_two_ranks_is_that_of_one_process(folder: Path) -> None:
    """An update is orthogonal whatever its size, in bfloat16, so small differences of gradients show."""
    assert losses(folder / "ddp_muon") == pytest.approx(losses(folder / "alone_muon"), abs=1e-3)
    for name, tensor in weights(folder / "alone_muon").items():
        torch.testing.assert_close(weights(folder / "ddp_muon")[name], tensor, atol=2e-4, rtol=1e-2, msg=name)


def test_ranks_agree_on_how_long_a_run_of_minutes_is(folder: Path) -> None:
    """If they did not, one would wait for the others for ever."""
    newest = max((folder / "ddp_minutes" / "checkpoints").iterdir())
    state = json.loads((newest / "trainer.json").read_text())["state"]
    assert state["step"] == state["num_steps"] == state["plan"]["num_steps"] >= 1


def test_bfloat16(folder: Path) -> None:
    """Sharded weights travel and work in bfloat16; they are kept in float32, and so is the residual stream."""
    exact = torch.load(folder / "ddp_1_mixed.pt")
    for strategy in STRATEGIES:
        rounded = torch.load(folder / f"{strategy}_bfloat16.pt")
        cross_entropy = rounded["figures"]["cross_entropy"]
        assert cross_entropy == pytest.approx(exact["figures"]["cross_entropy"], abs=0.02)
        assert cross_entropy != exact["figures"]["cross_entropy"]
        assert {weight.dtype for weight in rounded["weights"].values()} == {torch.float32}
    types = json.loads((folder / "types.json").read_text())
    assert types == {"stream": ["torch.float32"], "mixer": ["torch.bfloat16"], "logits": ["torch.bfloat16"]}


def test_sharded_and_copied_models_train_alike_in_bfloat16(folder: Path) -> None:
    """What one update sees is the same to the bit. Later losses differ no more than those of one rank and of three."""
    one, other = (torch.load(folder / f"{strategy}_bfloat16.pt")["figures"] for strategy in STRATEGIES)
    assert one["cross_entropy"] == other["cross_entropy"]
    assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-6)
    alone, ddp, fsdp = (list(losses(folder / f"{name}_rounded").values()) for name in ("alone", *STRATEGIES))
    assert len(ddp) == LONG_STEPS
    noise = max(abs(a - b) for a, b in zip(alone, ddp, strict=True))
    assert max(abs(a - b) for a, b in zip(fsdp, ddp, strict=True)) <= max(2 * noise, 1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_start_of_ranks_is_that_of_one_process(folder: Path, strategy: str, num_ranks: int, precision: str) -> None:
    """Weights and random state to the bit. Under FSDP only the first rank draws, and each keeps its share."""
    found, alone = (torch.load(folder / f"{strategy}_{precision}_{n}_start.pt") for n in (num_ranks, 1))
    assert all(weight.equal(alone["weights"][name]) for name, weight in found["weights"].items())
    assert found["random"].equal(alone["random"])
    assert found["share"] == pytest.approx(1 / num_ranks if strategy == "fsdp" else 1, rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_validation_of_ranks_is_that_of_one_process(
    folder: Path, strategy: str, num_ranks: int, precision: str
) -> None:
    """Though all ranks but the first call the model twice as often, and write no sample: none waits for another."""
    found, alone = (torch.load(folder / f"{strategy}_{precision}_{n}_start.pt") for n in (num_ranks, 1))
    assert found["measured"]["validation/num_bytes"] == alone["measured"]["validation/num_bytes"]
    for key, value in alone["measured"].items():
        assert found["measured"][key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9)), key
    assert found["unchanged"]


def update_alone(num_stages: int, lengths: str) -> tuple[HNetLM, StepResult]:
    """One process, one batch of all ranks' sequences."""
    batch = concatenate([make_batch(of_rank, rank) for rank, of_rank in enumerate(LENGTHS[lengths])])
    model, ratios = make_model(num_stages), TARGET_RATIOS[num_stages]
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-2, eps=1e-3), ratios)
    return model, update(
        model, optimizer, [batch], [RatioLoss(tuple(ratios), True, weight=0.5)], 1.0, torch.float32, ALONE
    )


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("num_stages", [1, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_statistics_of_all_ranks_are_those_of_the_global_batch(
    folder: Path, strategy: str, num_stages: int, lengths: str
) -> None:
    model, result = update_alone(num_stages, lengths)
    wanted = StepFigures.gather(result, ALONE)
    found = torch.load(folder / f"{strategy}_{num_stages}_{lengths}.pt")
    assert found["figures"]["ratio_losses"] == pytest.approx(wanted.ratio_losses, abs=1e-5)
    assert found["figures"]["cross_entropy"] == pytest.approx(wanted.cross_entropy, abs=1e-5)
    assert found["figures"]["grad_norm"] == pytest.approx(result.grad_norm, rel=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found["weights"][name], parameter.detach(), atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_statistics_of_each_rank_are_others(folder: Path, strategy: str) -> None:
    _, result = update_alone(2, "mixed")
    found = torch.load(folder / f"{strategy}_each_rank.pt")
    wanted = StepFigures.gather(result, ALONE)
    assert found["figures"]["cross_entropy"] == pytest.approx(wanted.cross_entropy, abs=1e-5)
    assert found["figures"]["ratio_losses"] != pytest.approx(wanted.ratio_losses, abs=1e-4)
