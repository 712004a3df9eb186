"""The run files we ship: they load, they fit their models, and every key has its comment."""

from pathlib import Path

import pytest

from hnet_lm.config import HNetConfig
from hnet_lm.named_configs import FOLDER
from hnet_lm.training.config import RunConfig

RUNS = sorted((FOLDER / "runs").glob("*.toml"))
FRESH = [path for path in RUNS if path.stem != "finetune"]


def test_fine_tuning_takes_the_stages_of_any_model():
    config = RunConfig.load("finetune")
    assert config.model.init_from
    assert config.validation.hold_out > 0
    for name, targets in (("hnet_1stage_L", (6.0,)), ("hnet_2stage_L", (3.0, 3.0)), ("tiny_isotropic", ())):
        assert config.for_model(HNetConfig.load(name)).loss.target_ratios == targets


@pytest.mark.parametrize("path", FRESH, ids=lambda path: path.stem)
def test_loads_and_fits_its_model(path: Path):
    config = RunConfig.load(path)
    config.check_model(HNetConfig.load(config.model.config))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_key_is_commented(path: Path):
    keys = [line for line in path.read_text().splitlines() if " = " in line and not line.startswith("#")]
    assert len(keys) > 20
    assert [line for line in keys if "  # " not in line] == []


def test_the_papers_runs_see_the_papers_batch_and_budget():
    for path in [path for path in RUNS if path.stem.startswith(("large", "xl"))]:
        config = RunConfig.load(path)
        ranks = int(path.read_text().split("Written for ")[1].split()[0])
        positions = ranks * config.run.accumulation * config.data.tokens_per_batch
        assert positions == 256 * 8192
        assert config.run.num_steps * positions == pytest.approx(100e9 * 4.6, rel=0.01)
