"""`hnet-lm info`: the table people read and the JSON programs read say the same."""

import io
import json
from pathlib import Path

import pytest

from hnet_lm.checkpoint import save
from hnet_lm.cli.main import main
from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.named_configs import FOLDER

MODELS = FOLDER / "models"


def info(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["info", *arguments]) == 0
    return capsys.readouterr().out


def test_table_of_a_published_model(capsys: pytest.CaptureFixture[str]):
    table = info(capsys, "hnet_1stage_L")  # by name: a path is printed, and may be long
    rows = [" ".join(line.split()) for line in table.splitlines()]
    assert "1 main_network T22 622,923,264 308 M 924 M 440 MiB" in rows
    assert "total 679,405,312 434 M 1.3 G 448 MiB" in rows
    assert "4.8 bytes per chunk (assumed, as in the published models)" in table
    assert max(map(len, table.splitlines())) <= 80


def test_json_has_every_part_and_their_sums(capsys: pytest.CaptureFixture[str]):
    path = MODELS / "hnet_2stage_XL.json"
    facts = json.loads(info(capsys, str(path), "--json", "--bytes-per-chunk", "3", "6.9", "--precision", "bfloat16"))
    assert facts["config"] == json.loads(path.read_text())
    assert (facts["bytes_per_chunk"], facts["sequence_length"], facts["dtype"]) == ([3, 6.9], 8192, "bfloat16")
    assert facts["total"]["parameters"] == 1_603_492_224
    assert facts["total"]["forward_flops_per_byte"] == pytest.approx(0.69e9, rel=0.01)
    for figure, total in facts["total"].items():
        assert sum(part[figure] for part in facts["parts"]) == pytest.approx(total)
    assert [(part["stage"], part["part"], part["layout"]) for part in facts["parts"] if part["layout"]] == [
        (0, "encoder", "m4"),
        (0, "decoder", "m4"),
        (1, "encoder", "T1m4"),
        (1, "decoder", "m4T1"),
        (2, "main_network", "T27"),
    ]
    for part in facts["parts"]:
        assert part["training_flops_per_byte"] == 3 * part["forward_flops_per_byte"]


def test_options_change_what_they_should(capsys: pytest.CaptureFixture[str]):
    path = str(MODELS / "tiny_1stage.json")

    def total(*options: str) -> dict[str, float]:
        return json.loads(info(capsys, path, "--json", *options))["total"]

    default = total()
    assert total("--bytes-per-chunk", "2.4")["forward_flops_per_byte"] > default["forward_flops_per_byte"]
    assert total("--sequence-length", "16384")["state_bytes"] > default["state_bytes"]
    assert total("--precision", "bfloat16")["state_bytes"] < default["state_bytes"]
    assert total("--precision", "bfloat16")["parameters"] == default["parameters"]


@pytest.mark.parametrize("name", ["tiny_isotropic", "tiny_2stage"])
def test_a_saved_directory_is_as_good_as_its_config(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(HNetLM(HNetConfig.load(MODELS / f"{name}.json")), tmp_path / "saved")
    assert info(capsys, str(tmp_path / "saved"), "--json") == info(capsys, str(MODELS / f"{name}.json"), "--json")


def test_names_in_brackets_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "[bold]x.json"
    path.write_text((MODELS / "tiny_isotropic.json").read_text())
    assert "[bold]x.json" in info(capsys, str(path)).replace("\n", "").replace(" ", "")


def test_the_wrong_number_of_chunk_sizes_is_said(capsys: pytest.CaptureFixture[str]):
    assert main(["info", str(MODELS / "tiny_2stage.json"), "--bytes-per-chunk", "3"]) == 2
    assert "the model chunks 2 times, but 1 values are given" in capsys.readouterr().err


def test_a_model_of_tokens_is_described_per_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = json.loads((MODELS / "tiny_isotropic.json").read_text()) | {"reads_tokens": True, "vocab_size": 1000}
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps(table))
    out = info(capsys, str(path))
    assert "FLOPs/token" in out
    assert "8192 tokens per sequence" in out
    assert "byte" not in out.replace("bytes of state", "")
    facts = json.loads(info(capsys, str(path), "--json"))
    assert facts["unit"] == "token"
    assert facts["total"]["training_flops_per_token"] == 3 * facts["total"]["forward_flops_per_token"] > 0


def test_a_run_file_says_what_its_training_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = MODELS.parent / "runs" / "demo.toml"
    facts = json.loads(info(capsys, str(path), "--json"))
    assert (facts["sequence_length"], facts["bytes_per_chunk"]) == (1024, [6.0])
    training = facts["training"]
    assert (training["num_steps"], training["bytes_per_step_and_rank"]) == (376, 4096)
    assert training["flops_per_rank"] == pytest.approx(376 * 4096 * facts["total"]["training_flops_per_byte"])
    assert training["learning_rates"] == pytest.approx([4e-3, 3e-3])
    out = info(capsys, str(path))
    assert "6 bytes per chunk (assumed, the loss.target_ratios of its run file)" in out
    assert "376 updates of 4,096 bytes = 1,540,096 bytes" in out


def test_what_is_no_model_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "bad.toml").write_text("[run]\nnum_stepz = 3\n")
    for source, says in (("nowhere", "no such directory"), (str(tmp_path / "bad.toml"), "did you mean 'num_steps'")):
        assert main(["info", source]) == 2
        assert says in capsys.readouterr().err


def test_a_config_from_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    path = MODELS / "tiny_1stage.json"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + path.read_bytes())))
    lines = info(capsys, "-").splitlines()
    assert lines[0].startswith("-: widths 64, 96")
    assert lines[1:] == info(capsys, str(path)).splitlines()[1:]


def test_what_is_not_the_paper_s_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = HNetConfig.load(FOLDER / "models/tiny_1stage.json").to_dict()
    path = tmp_path / "own.json"
    path.write_text(json.dumps(table | {"chunkers": [{"name": "linear"}], "chunking": [{"smoothing": "bytes"}]}))
    line = next(line for line in info(capsys, str(path)).splitlines() if line.startswith("stage 0 is cut by 'linear'"))
    assert "threshold 0.5, start_rate 0.5" in line
    assert "smoothing bytes, confidence straight_through, residual projection" in line
    assert "cut by" not in info(capsys, "tiny_1stage")
