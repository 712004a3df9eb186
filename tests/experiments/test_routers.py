"""The router experiment: every recipe is a run that could begin, and its report says what the cells say."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments.routers import recipes, report, tasks, trend

from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import total_flops_per_byte

ALL = sorted({recipe for names in recipes.SETS.values() for recipe in names} | {"policy-threshold", "mambabyte+lr-2"})


@pytest.mark.parametrize("recipe", ALL)
def test_every_recipe_fits_its_model(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where it has another network it costs as many FLOPs per byte."""
    monkeypatch.setattr(tasks, "RUNS", tmp_path)
    run = tasks.configured("demo", recipe, 3, None)
    model = HNetConfig.load(run.model.config)
    run.check_model(model)
    assert run.run.directory == str(tmp_path / "demo" / f"{recipe}-3")
    assert run.run.seed == 3
    keys = recipes.merged(recipe)
    if "outer" in keys and "target" not in keys:
        cost, plain = (total_flops_per_byte(c, 1024, [6.0]) for c in (model, HNetConfig.load("demo")))
        assert cost == pytest.approx(plain, rel=0.021)


def test_parts_join_and_a_target_goes_everywhere() -> None:
    found = recipes.aimed(recipes.merged("entropy-0.1+bytes+cab+n4"), 6.0)
    assert [(term["name"], term.get("target_ratio")) for term in found["loss"]["terms"]] == [
        ("entropy", 4.0),
        ("cab", None),
    ]
    assert found["loss"]["target_ratios"] == (4.0,)
    assert found["loss"]["ratio_loss_weight"] == 0.3
    assert found["model"] == {"chunking": [{"smoothing": "bytes"}]}
    held = recipes.aimed(recipes.merged("atdc"), 3.0)["loss"]
    assert held["start_target_ratios"] == (3.0 / 1.3,)
    policy = recipes.aimed(recipes.merged("policy"), 3.0)
    assert policy["model"]["chunkers"][0]["start_ratio"] == policy["loss"]["terms"][2]["target_ratio"] == 3.0


def cell(bits: float, tflops: float = 10.0, **figures: Any) -> dict[str, Any]:
    return {"bits_per_byte": bits, "training_tflops": tflops, **figures}


def test_a_table_has_means_with_their_intervals() -> None:
    results = {"a+b-0": cell(2.0, enrichment=1.5), "a+b-1": cell(2.2, enrichment=1.5), "c-0.1-0": cell(2.5)}
    lines = report.table(results).splitlines()
    assert lines[2].startswith("| a+b | 2 | 2.100 ± 1.271 | 10.000 ± 0.000 |")  # t of one degree of freedom is 12.7
    assert lines[3].startswith("| c-0.1 | 1 | 2.500 | 10.000 |")
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")


def test_bits_are_read_where_flops_are_equal() -> None:
    """Targets on a line: 0.1 bits for each factor of e in FLOPs."""
    flops = {"": 10.0, "+n4": 12.0, "+n8": 9.0}
    results = {f"paper{n}-0": cell(3 - 0.1 * math.log(f), f) for n, f in flops.items()}
    results |= {f"x{n}-0": cell(2.9 - 0.1 * math.log(2 * f), 2 * f) for n, f in flops.items()}
    found = report.at_equal_flops(results)
    assert found["paper"].mean == pytest.approx(3 - 0.1 * math.log(10))
    assert found["x"].mean == pytest.approx(2.9 - 0.1 * math.log(10))
    assert report.AT_EQUAL_FLOPS in report.table(results)


def test_the_trend_says_where_it_crosses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trend, "HERE", tmp_path)
    for task, flops, difference in (("english-half", 1e6, 0.2), ("english", 1e7, 0.1)):
        cells = {f"entropy-0.1-{s}": cell(2 + difference, flops_per_byte=flops) for s in range(2)}
        cells |= {f"mambabyte-{s}": cell(2.0) for s in range(3)}
        (tmp_path / f"{task}.json").write_text(json.dumps(cells))
    points = [trend.differences(task, "entropy-0.1", "mambabyte") for task in ("english-half", "english")]
    assert [len(values) for _, values in points] == [2, 2]
    assert math.exp(trend.crossing(points)) == pytest.approx(1e8, rel=1e-6)
    assert trend.crossing([(1.0, [0.1]), (2.0, [0.2])]) == math.inf
    drawn = trend.drawn([(0.0, [1.0, 2.0])], np.random.default_rng(0))
    assert set(drawn[0][1]) <= {1.0, 2.0}
