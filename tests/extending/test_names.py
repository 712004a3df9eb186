"""What a name in a configuration can do, and what it cannot: import, run, or be anything but a part."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_own_parts import MODEL, import_module_of_user_here

import hnet_lm
from hnet_lm.chunker_config import CHUNKERS
from hnet_lm.cli.main import main
from hnet_lm.data import SourceConfig
from hnet_lm.errors import ConfigError, UserError
from hnet_lm.losses import parse_terms
from hnet_lm.ops import use_backend
from hnet_lm.ops.dispatch import Op
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.sequences import Sequences

EVIL = """
from pathlib import Path
Path("it_ran").touch()
"""


def with_chunker(name: Any, **options: Any) -> dict[str, Any]:
    return {**MODEL, "chunkers": [{"name": name, **options}, {"name": "dynamic"}]}


def write_model(folder: Path, name: str) -> Path:
    """A saved model, whose configuration is then changed to name this chunker."""
    path = folder / "stranger"
    hnet_lm.save(hnet_lm.HNetLM(hnet_lm.HNetConfig.from_dict(with_chunker("space"))), path)
    (path / "config.json").write_text(json.dumps(with_chunker(name)))
    return path


def test_a_model_whose_module_is_not_imported_is_one_line_that_says_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_model(folder, "punctuation:Punctuation")
    with pytest.raises(
        UserError, match="'punctuation', which has not been imported; if you trust it: hnet-lm --import"
    ):
        hnet_lm.load(path)
    assert main(["generate", str(path), "a"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "stranger/config.json: chunkers, entry 0: the chunker 'punctuation:Punctuation' is in the module" in line
    assert "punctuation" not in sys.modules


def test_loading_a_model_runs_nothing_of_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where Python would find it: in the working directory, first on the path."""
    path = write_model(folder, "evil:Chunker")
    (path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(path)
    monkeypatch.syspath_prepend(str(path))
    with pytest.raises(UserError, match="'evil', which has not been imported"):
        hnet_lm.load(path)
    assert main(["info", str(path)]) == 2
    assert not (path / "it_ran").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("os:system", "'os:system' is no chunker: not a class derived from ChunkerConfig"),
        ("builtins:eval", "is no chunker"),
        ("hnet_lm.chunker_config:CHUNKERS", "is no chunker"),
        ("hnet_lm.data.config:SourceConfig", "is no chunker"),
        ("os:path.join", "is no chunker"),
        ("os:nothing", "the module 'os' has no 'nothing', which should be a chunker"),
        ("hnet_lm:generate", "the module 'hnet_lm' has no 'generate'"),
        ("os:", "the module 'os' has no ''"),
        (":x", "the module '', which has not been imported"),
        ("nowhere_at_all:X", "'nowhere_at_all', which has not been imported"),
        ("spase", "no chunker 'spase'; there are dynamic, cosine, linear, policy, space, .*; did you mean 'space'?"),
        (7, "no chunker 7"),
        (["space"], "no chunker"),
        ({"a": 1}, "no chunker"),
        (None, "no chunker None"),
    ],
)
def test_only_parts_can_be_named(name: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^chunkers, entry 0: .*{says}"):
        hnet_lm.HNetConfig.from_dict(with_chunker(name))


def test_the_base_of_a_kind_is_no_part() -> None:
    with pytest.raises(ConfigError, match="leaves open what build should do"):
        hnet_lm.HNetConfig.from_dict(with_chunker("hnet_lm.chunker_config:ChunkerConfig"))


def test_a_chunker_that_builds_something_else(folder: Path) -> None:
    source = "from dataclasses import dataclass\nfrom hnet_lm.chunker_config import ChunkerConfig\n"
    source += "@dataclass(frozen=True)\nclass Odd(ChunkerConfig):\n    def build(self, site):\n        return 7\n"
    (folder / "odd.py").write_text(source)
    import_module_of_user_here(folder, "odd")
    config = hnet_lm.HNetConfig.from_dict(with_chunker("odd:Odd"))
    with pytest.raises(ConfigError, match="entry 0: 'odd:Odd' builds a int, not a Chunker"):
        hnet_lm.HNetLM(config)


def test_options_are_read_strictly(folder: Path) -> None:
    import_module_of_user_here(folder, "punctuation")
    name = "punctuation:Punctuation"
    with pytest.raises(ConfigError, match="unknown key 'mark'; did you mean 'marks'"):
        hnet_lm.HNetConfig.from_dict(with_chunker(name, mark="."))
    with pytest.raises(ConfigError, match="marks: must be a string, got 3"):
        hnet_lm.HNetConfig.from_dict(with_chunker(name, marks=3))
    with pytest.raises(ConfigError, match="entry 1: 'punctuation:Punctuation' looks at the bytes"):
        hnet_lm.HNetConfig.from_dict({**MODEL, "chunkers": [{"name": "pool"}, {"name": name}]})


def test_other_kinds_refuse_alike(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^loss.terms\[0\]: .*'sharpness', which has not been imported"):
        parse_terms([{"name": "sharpness:Sharpness"}])
    import_module_of_user_here(folder, "punctuation")
    with pytest.raises(ConfigError, match="is no loss term: not a class derived from LossTerm"):
        parse_terms([{"name": "punctuation:Punctuation"}])
    with pytest.raises(ConfigError, match=r"^data.sources.format: .*is no data format"):
        SourceConfig("a", format="punctuation:Punctuation")
    with pytest.raises(ConfigError, match=r"data\.sources\.options are those of a format"):
        SourceConfig("a", options={"mark": "%"})


def declare(folder: Path, text: str) -> None:
    """An installed package, `marks 1.0`, with these entry points."""
    info = folder / "marks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: marks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(text)


def test_an_installed_package_declares_its_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a short name or by module:Class, without an import; what it names is imported when it is asked for."""
    declare(folder, "[hnet_lm.chunkers]\nmarks = punctuation:Punctuation\n")
    monkeypatch.syspath_prepend(str(folder))
    assert "marks" in list(CHUNKERS)
    model = hnet_lm.HNetLM(hnet_lm.HNetConfig.from_dict(with_chunker("marks")))
    hnet_lm.save(model, folder / "model")
    del sys.modules["punctuation"]
    loaded = hnet_lm.load(folder / "model")
    assert loaded.config.to_dict()["chunkers"][0] == {"name": "punctuation:Punctuation", "marks": ".,;:!?"}


def test_an_installed_package_declares_a_backend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(folder, "[hnet_lm.op_backends]\nfast = doubling\n")
    monkeypatch.syspath_prepend(str(folder))
    op = Op("hnet_lm.ops.ema_scan")
    arguments = (torch.ones(2, 1), torch.full((2,), 0.5), Sequences.from_lengths([2]), None)
    for choice in (use_backend("fast"), use_backend(ema_scan="fast"), use_backend("doubling")):
        with choice:
            assert op.choose(None, torch.device("cpu"), *arguments) is sys.modules["doubling"]
            assert ema_scan(*arguments)[0].flatten().tolist() == [0.5, 0.75]
    assert op.choose(None, torch.device("cpu"), *arguments) is not sys.modules["doubling"]


def test_a_package_that_cannot_be_imported_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(folder, "[hnet_lm.chunkers]\nbroken = broken:Chunker\n")
    (folder / "broken.py").write_text("raise RuntimeError('no licence\\nat all')\n")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ConfigError, match=r"of marks cannot be imported: RuntimeError: no licence$"):
        hnet_lm.HNetConfig.from_dict(with_chunker("broken"))


def test_a_package_cannot_take_the_name_of_a_built_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(folder, "[hnet_lm.chunkers]\nspace = evil:Chunker\n")
    (folder / "evil.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(folder))
    hnet_lm.HNetConfig.from_dict(with_chunker("space"))
    assert not (folder / "it_ran").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--import", "nowhere_at_all", "info", "a"],
            "there is no such module in this folder",
        ),
        (["--import", "broken", "info", "a"], "--import broken: NameError: name 'x' is not defined"),
        (["--import", "needs", "info", "a"], "--import needs: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (["--import"], "--import takes a value"),
        (["--backend", "ssd", "info", "a"], "--backend ssd: must be OP=BACKEND"),
        (["--backend", "ssd=fast", "info", "a"], "op ssd has no backend 'fast'"),
        (["--backend", "scan=eager", "info", "a"], "there is no op 'scan'"),
        (["--backend", "ssd=json", "info", "a"], "op ssd has no backend 'json'"),
        (["evaluate", "nowhere_at_all:X"], "the module 'nowhere_at_all', which has not been imported"),
        (["evaluate"], "name what to measure: bpb, "),
        (["match", "--to", "a", "--family", "os:system"], "is no family: not an object of Family"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.py").write_text("x\n")
    (folder / "needs.py").write_text("import nowhere_at_all\n")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
