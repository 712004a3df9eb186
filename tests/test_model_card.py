"""The card beside a saved model: what it says, that it is read again, and that nobody's own is replaced."""

from pathlib import Path

import pytest

import hnet_lm
from hnet_lm.config import HNetConfig
from hnet_lm.errors import UserError
from hnet_lm.model import HNetLM
from hnet_lm.model_card import MARK, ModelCard


@pytest.fixture
def model() -> HNetLM:
    return HNetLM(HNetConfig.load("tiny_2stage"))


def test_a_card_says_what_is_known_and_is_read_again(model: HNetLM, tmp_path: Path) -> None:
    card = ModelCard({"training data": "a|b  c\nd", "bits per byte": "1.5 (1.4 to 1.6)"}, license="apache-2.0")
    hnet_lm.save(model, tmp_path / "saved", card=card)
    text = (tmp_path / "saved/README.md").read_text()
    assert text.startswith("---\nlibrary_name: hnet-lm\n")
    assert "license: apache-2.0\n---" in text
    assert f"| parameters | {sum(p.numel() for p in model.parameters()):,} |" in text
    assert "into chunks 2 times over" in text
    found = ModelCard.read(tmp_path / "saved")
    assert found.license == "apache-2.0"
    assert found.facts["training data"] == "a|b c d"
    assert found.facts["bits per byte"] == "1.5 (1.4 to 1.6)"
    assert found.of_model(model.config, 1).facts["parameters"] == "1"


def test_our_card_is_written_again_and_somebodys_own_stays(model: HNetLM, tmp_path: Path) -> None:
    path = tmp_path / "saved/README.md"
    hnet_lm.save(model, tmp_path / "saved", card=ModelCard({"a": "b"}))
    hnet_lm.save(model, tmp_path / "saved")
    assert "| a | b |" not in path.read_text()
    own = path.read_text().replace(MARK, "")
    path.write_text(own)
    hnet_lm.save(model, tmp_path / "saved")
    assert path.read_text() == own
    assert ModelCard.read(tmp_path / "saved") == ModelCard()


def test_no_card_and_no_licence(tmp_path: Path) -> None:
    assert ModelCard.read(tmp_path / "nothing") == ModelCard()
    with pytest.raises(UserError, match="is no name of a licence"):
        ModelCard(license="mit\nx: y")
