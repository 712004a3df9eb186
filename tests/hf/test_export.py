"""`hnet-lm export hf`: a directory that transformers loads, with our import or by itself, and that we load again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hf_models import LAYOUTS, tiny
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.hf import HNetLMForCausalLM, HNetLMTokenizer
from hnet_lm.hf.export import WRITTEN, export
from hnet_lm.model import HNetLM
from hnet_lm.model_card import MARK, ModelCard

IDS = torch.tensor([[254, *b"Once upon a time"]])


@pytest.fixture
def saved(plain: HNetLM, tmp_path: Path) -> Path:
    hnet_lm.save(plain, tmp_path / "saved", card=ModelCard({"training data": "a | book"}, license="mit"))
    return tmp_path / "saved"


@pytest.fixture
def exported(saved: Path, tmp_path: Path) -> Path:
    arguments = ["--target-ratios", "2", "4", "--ratio-loss-weight", "0.1"]
    assert main(["export", "hf", str(saved), str(tmp_path / "exported"), *arguments]) == 0
    return tmp_path / "exported"


def test_transformers_loads_what_is_exported(exported: Path, plain: HNetLM) -> None:
    assert {path.name for path in exported.iterdir()} == set(WRITTEN)
    config = AutoConfig.from_pretrained(exported)
    assert (config.target_ratios, config.ratio_loss_weight) == ([2.0, 4.0], 0.1)
    model = AutoModelForCausalLM.from_pretrained(exported)
    assert type(model) is HNetLMForCausalLM
    assert torch.equal(model(IDS).logits, plain(IDS).logits)
    assert type(AutoTokenizer.from_pretrained(exported)) is HNetLMTokenizer
    assert model.generation_config.eos_token_id == 255
    assert model.generation_config.suppress_tokens == [254]


def test_we_load_it_again(exported: Path, plain: HNetLM) -> None:
    again = hnet_lm.load(exported)
    assert again.config == plain.config
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), plain.parameters(), strict=True))


def test_the_card_knows_what_the_models_own_card_knew(exported: Path, saved: Path) -> None:
    card, before = ModelCard.read(exported), ModelCard.read(saved)
    assert card == before
    assert card.facts["training data"] == "a | book"
    text = (exported / "README.md").read_text()
    assert "library_name: transformers" in text
    assert "license: mit" in text
    assert "AutoModelForCausalLM.from_pretrained" in text


def test_remote_code_needs_no_import_of_ours(exported: Path, tmp_path: Path) -> None:
    """And what it saves is a directory of the same kind. In a process of its own, which has not imported hnet_lm."""
    code = f"""
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
assert "hnet_lm" not in sys.modules
model = AutoModelForCausalLM.from_pretrained({str(exported)!r}, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained({str(exported)!r}, trust_remote_code=True)
model.save_pretrained({str(tmp_path / "again")!r})
tokenizer.save_pretrained({str(tmp_path / "again")!r})
print(tokenizer("Once").input_ids)
"""
    cache = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **cache}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == str([254, *b"Once"])
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(again(IDS).logits, hnet_lm.load(exported)(IDS).logits)
    assert {path.name for path in (tmp_path / "again").iterdir()} == set(WRITTEN) - {"README.md"}
    assert json.loads((tmp_path / "again/config.json").read_text())["auto_map"]


def test_remote_code_says_what_to_install(exported: Path) -> None:
    """The file of the directory, run where there is no hnet_lm."""
    code = "import sys; sys.modules['hnet_lm'] = None; exec(open(sys.argv[1]).read())"
    file = str(exported / "modeling_hnet_lm.py")
    found = subprocess.run([sys.executable, "-S", "-c", code, file], capture_output=True, text=True, check=False)
    assert "pip install 'hnet-lm[hf]'" in found.stderr.splitlines()[-1]


def test_a_readme_of_somebodys_own_stays(exported: Path, saved: Path) -> None:
    own = (exported / "README.md").read_text().replace(MARK, "mine now")
    (exported / "README.md").write_text(own)
    assert main(["export", "hf", str(saved), str(exported)]) == 0
    assert (exported / "README.md").read_text() == own
    assert AutoConfig.from_pretrained(exported).target_ratios == [3.0, 3.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target-ratios", "3"], "learns where to cut in 2 stages, but 1 are given"),
        (["--ratio-loss-weight", "-1"], "--ratio-loss-weight: must be a number, 0 or more"),
        (["--license", "My own"], "is no name of a licence"),
    ],
)
def test_what_does_not_fit_is_said(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["export", "hf", str(saved), str(tmp_path / "new"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_other_files_and_models_of_tokens_are_left_alone(saved: Path, tmp_path: Path, plain: HNetLM) -> None:
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(hnet_lm.UserError, match=r"holds other files \(notes.txt\)"):
        export(plain, saved)
    tokens = HNetLM(hnet_lm.HNetConfig.from_dict({**tiny(LAYOUTS["isotropic"]).config.to_dict(), "reads_tokens": True}))
    with pytest.raises(hnet_lm.UserError, match="reads tokens"):
        export(tokens, tmp_path / "new")
    assert not (tmp_path / "new").exists()
