"""Token superposition: the loss against its definition, the switch to normal updates, exact resumes, refusals."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from training_runs import Listener, architecture, make_batch, run_config, run_table, weights

from hnet_lm.config import HNetConfig
from hnet_lm.data import IGNORE_INDEX, Batch
from hnet_lm.errors import ConfigError
from hnet_lm.losses import next_byte_loss
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences
from hnet_lm.tables import from_table
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.loop import train
from hnet_lm.training.metrics import read_metrics
from hnet_lm.training.run import build
from hnet_lm.training.superposition import Superposition, superposed

BAG = 4
LENGTHS = [11, 3, 4, 16, 1]


FLAT: dict[str, Any] = {
    **{"arch_layout": ["t1"], "d_model": [32], "d_intermediate": [0], "ngrams": {"sizes": [2, 3], "num_rows": 64}},
    "attn_cfg": {"num_heads": [2], "rotary_emb_dim": [8], "window_size": [-1]},
}


def flat_model() -> HNetLM:
    torch.manual_seed(0)
    model = HNetLM(HNetConfig.from_dict(FLAT)).double()
    assert model.ngrams is not None
    nn.init.normal_(model.ngrams.embedding.weight)
    return model


def written_out(model: HNetLM, batch: Batch) -> Tensor:
    """The mean over all targets, one bag and one byte at a time."""
    terms, start = [], 0
    for length in batch.sequences.host_lengths:
        ids, targets = (x[start : start + length] for x in (batch.input_ids, batch.targets))
        start += length
        vectors = model.embed(ids)[0]
        bags = torch.stack([vectors[i : i + BAG].mean(0) for i in range(0, length, BAG)])
        logits = model.from_vectors(bags, Sequences.from_lengths([len(bags)])).logits
        text = [*ids.tolist(), int(targets[-1])]
        for bag in range(1, len(text)):
            for byte in text[bag * BAG : (bag + 1) * BAG]:
                terms.append(cross_entropy(logits[bag - 1], torch.tensor(byte)))
    return torch.stack(terms).mean()


def test_the_loss_is_that_of_the_definition() -> None:
    model = flat_model()
    halves = [make_batch(LENGTHS[:3], seed=0), make_batch(LENGTHS[3:], seed=1)]
    batch = superposed(halves, BAG)
    assert batch.num_bytes == sum(half.num_bytes for half in halves)
    out = Superposition(model, BAG)(batch.input_ids, batch.sequences)
    loss = next_byte_loss(out.logits, batch.targets)
    whole = dataclasses.replace(batch, targets=torch.cat([half.targets for half in halves]))
    expected = written_out(model, whole)
    torch.testing.assert_close(loss, expected)
    assert int((batch.targets != IGNORE_INDEX).sum()) == sum(max(0, n + 1 - BAG) for n in LENGTHS)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for found, wanted in zip(gradients, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(found, wanted)


def test_bags_of_one_are_the_plain_model() -> None:
    model, batch = flat_model(), make_batch(LENGTHS)
    out = Superposition(model, 1)(batch.input_ids, batch.sequences)
    torch.testing.assert_close(out.logits, model(batch.input_ids, batch.sequences).logits)
    assert superposed([batch], 1).targets.equal(batch.targets)


def train_run(folder: Path, name: str, listener: Any = None, **superposition: Any) -> list[dict[str, Any]]:
    """The records of updates of a run of six steps, the speed left out."""
    (folder / "flat.json").write_text(json.dumps(FLAT))
    model = {"config": str(folder / "flat.json")}
    train(run_config(folder, 0, name, model=model, superposition=superposition), listener)
    records = [record for record in read_metrics(folder / name / "metrics.jsonl") if "lr" in record]
    measured = ("bytes_per_second", "matmul_utilization")
    return [{key: value for key, value in record.items() if key not in measured} for record in records]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A run whose first three updates are over bags of two, and its records."""
    folder = tmp_path_factory.mktemp("superposition")
    return folder, train_run(folder, "run", bag_size=2, fraction=0.5)


def test_an_update_over_bags_reads_more_and_says_no_bits_per_byte(finished: Any) -> None:
    folder, records = finished
    plain = train_run(folder, "plain")
    assert [record.get("superposition/bag_size") for record in records] == [2, 2, 2, None, None, None]
    for record in records:
        assert ("bits_per_byte" in record) == ("loss" in record) == ("superposition/loss" not in record)
    read = [b["bytes_seen"] - a["bytes_seen"] for a, b in zip([{"bytes_seen": 0}, *records], records, strict=False)]
    of_plain = [b["bytes_seen"] - a["bytes_seen"] for a, b in zip([{"bytes_seen": 0}, *plain], plain, strict=False)]
    assert read[0] == sum(of_plain[:2])
    assert read[1] == sum(of_plain[2:4])
    assert all(90 < num <= 96 for num in read[3:])


@pytest.mark.parametrize("options", [{"bag_size": 1}, {"bag_size": 4, "fraction": 0.0}], ids=str)
def test_none_is_the_plain_run_bit_for_bit(finished: Any, options: dict[str, Any]) -> None:
    folder, _ = finished
    name = json.dumps(options).replace('"', "")
    assert train_run(folder, name, **options) == train_run(folder, f"plain {name}")
    found, wanted = (weights(folder / run) for run in (name, f"plain {name}"))
    assert all(found[key].equal(value) for key, value in wanted.items())


class Stop(Exception):
    """Ends a run as an error would."""


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_resume_before_at_and_after_the_switch_is_exact(finished: Any, step: int) -> None:
    folder, records = finished
    name = f"stopped at {step}"

    def stop(made: int) -> None:
        if made == step:
            raise Stop

    with pytest.raises(Stop):
        train_run(folder, name, Listener(stop), bag_size=2, fraction=0.5)
    assert train_run(folder, name, bag_size=2, fraction=0.5) == records
    found, wanted = weights(folder / name), weights(folder / "run")
    assert all(found[key].equal(value) for key, value in wanted.items())


def test_the_network_is_the_model_again_after_the_switch(tmp_path: Path) -> None:
    config = run_config(tmp_path, 0, superposition={"bag_size": 2, "fraction": 0.5})
    run = build(config, Ranks(0, 1, torch.device("cpu")))
    updates = run.micro_batches()
    for step in range(6):
        run.state.step = step
        (batch,) = next(updates)
        assert isinstance(run.network, Superposition) == (step < 3)
        assert len(batch.input_ids) == (192 if step < 3 else 96)
    assert run.network is run.model
    run.close()


@pytest.mark.parametrize(
    ("num_stages", "tables", "message"),
    [
        (1, {}, "superposition: goes with a model that does not chunk"),
        (0, {"data": {"max_length": 3}}, r"superposition.bag_size: 4 is more than a sequence has"),
        (0, {"run": {"num_steps": None, "minutes": 1.0}}, "give run.num_steps, not run.minutes"),
        (0, {"loss": {"terms": [{"name": "cab", "weight": 0.1}]}}, "leave out loss.terms"),
        (0, {"distributed": {"strategy": "fsdp"}}, "take distributed.strategy 'ddp'"),
        (0, {"superposition": {"bag_size": 0}}, "superposition.bag_size: must be a whole number, 1 or more, got 0"),
        (0, {"superposition": {"fraction": 1.0}}, "superposition.fraction: must be a number, 0 or more and below 1"),
    ],
    ids=str,
)
def test_what_does_not_go_with_it_is_refused(
    tmp_path: Path, num_stages: int, tables: dict[str, Any], message: str
) -> None:
    table = run_table(tmp_path, num_stages, **{"superposition": {"bag_size": 4}, **tables})
    table["run"] = {key: value for key, value in table["run"].items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        from_table(RunConfig, table).for_model(architecture(num_stages))
