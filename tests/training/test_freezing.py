"""What is not trained: stages and patterns of names; mistakes say what names there are."""

import pytest
from training_runs import make_model

from hnet_lm.errors import ConfigError
from hnet_lm.training.freezing import freeze


def frozen_names(patterns: list[str], num_stages: int = 2) -> set[str]:
    model = make_model(num_stages)
    count = freeze(model, patterns)
    frozen = {name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert count == sum(parameter.numel() for parameter in frozen.values())
    return set(frozen)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_by_stage(stage: int) -> None:
    stages = make_model(2).parameter_stages()
    assert frozen_names([f"stage:{stage}"]) == {name for name, own in stages.items() if own == stage}


def test_by_pattern() -> None:
    names = {name for name, _ in make_model(2).named_parameters()}
    assert frozen_names(["network.encoder.*"]) == {name for name in names if name.startswith("network.encoder.")}
    assert frozen_names(["*.routing.*"]) == {name for name in names if ".routing." in name}
    assert frozen_names(["embedding.weight", "lm_head.*"]) == {"embedding.weight", "lm_head.weight"}


def test_patterns_add_up() -> None:
    assert frozen_names(["stage:2", "embedding.*"]) == frozen_names(["stage:2"]) | frozen_names(["embedding.*"])
    assert frozen_names([]) == set()


@pytest.mark.parametrize("pattern", ["stage:3", "stage:x", "encoder.*", "network.encoders.*"])
def test_a_pattern_that_names_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        frozen_names([pattern])
    assert repr(pattern) in str(caught.value)
    assert "network.encoder" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_freezing_everything_is_an_error() -> None:
    with pytest.raises(ConfigError, match="everything is frozen"):
        frozen_names(["*"])
