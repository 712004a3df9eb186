"""`loss.recipe`: what it stands for is written out, and stays what it was when a run goes on."""

import json
from pathlib import Path

import pytest
from training_runs import TARGET_RATIOS, architecture, run_config, updates

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.named_configs import FOLDER
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train


@pytest.mark.parametrize(("num_stages", "weight"), [(1, 0.0), (2, 0.03)])
def test_the_small_recipe_is_its_terms(tmp_path: Path, num_stages: int, weight: float) -> None:
    model = architecture(num_stages)
    short = run_config(tmp_path, num_stages, loss={"recipe": "small"}).for_model(model)
    term = {"name": "entropy", "target_ratio": TARGET_RATIOS[num_stages][0], "weight": 0.1}
    long = run_config(tmp_path, num_stages, loss={"ratio_loss_weight": weight, "terms": [term]})
    assert short == long.for_model(model)
    assert short.for_model(model) == short


def test_a_run_says_what_it_does(tmp_path: Path) -> None:
    config = run_config(tmp_path, loss={"recipe": "small", "target_ratios": []}, run={"num_steps": 2})
    train(config)
    assert all("stage0/entropy" in record for record in updates(tmp_path / "run"))
    (trainer,) = (tmp_path / "run").glob("checkpoints/step_00000002/trainer.json")
    loss = json.loads(trainer.read_text())["config"]["loss"]
    assert loss["terms"][0]["name"] == "entropy"
    assert loss["terms"][0]["target_ratio"] == 6.0  # the paper's, of one stage
    assert train(config).step == 2


def test_a_recipe_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recipe: must be one of 'paper', 'small'"):
        run_config(tmp_path, loss={"recipe": "smal"})
    with pytest.raises(ConfigError, match="'small' steers where to cut"):
        run_config(tmp_path, 0, loss={"recipe": "small"}).for_model(architecture(0))
    twice = run_config(tmp_path, loss={"recipe": "small", "terms": [{"name": "entropy", "target_ratio": 3.0}]})
    with pytest.raises(ConfigError, match="'small' adds the term 'entropy'"):
        twice.for_model(architecture())


def test_the_three_stage_run_fits_its_model() -> None:
    run = RunConfig.load("english_3stage")
    model = HNetConfig.load(FOLDER / "models/small_3stage.json")
    assert model.num_stages == 3
    assert run.for_model(model) == run
