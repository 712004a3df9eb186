"""The wheel, installed into an empty environment: whoever has it alone, in an empty folder, can do everything."""

import json
import os
import re
import signal
import subprocess
import tomllib
import zipfile
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from installed_wheel import ROOT, Installed, build_wheel, install

pytestmark = pytest.mark.long

TEXT = "It was the best of times, it was the worst of times. " * 60
FEW = """--run.minutes 0.2 --model.config tiny_2stage --data.tokens-per-batch 256 --data.max-length 128
    --data.shuffle-bytes 1000 --validation.max-bytes 300 --validation.sample-bytes 0""".split()  # noqa: SIM905  # legible


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    installed = install(wheel, tmp_path_factory.mktemp("empty"))
    (installed.folder / "mine.txt").write_text(TEXT)
    return installed


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    code = {name for name in names if name.startswith("hnet_lm/")}
    files = [path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert code == {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert {"hnet_lm/py.typed", "hnet_lm/configs/runs/english.toml", "hnet_lm/configs/models/demo.json"} <= code
    info = {name.partition("/")[2] for name in names - code}
    assert info == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, flags=re.MULTILINE)
    assert sorted(required) == sorted(re.split(r"[^\w-]", name)[0] for name in project["dependencies"])


def test_it_is_the_wheel_that_runs(installed: Installed) -> None:
    assert "hnet_lm" not in os.listdir(installed.folder)
    code = "import hnet_lm, pathlib; print(pathlib.Path(hnet_lm.__file__).parent)"
    process = installed.start("-c", code)
    out, err = process.communicate(timeout=100)
    assert not err
    assert Path(out.strip()).is_relative_to(installed.folder.parent / "venv")


def test_a_first_hour(installed: Installed) -> None:
    """The demo, cut short in a file that `new` wrote, and then a model of one's own text."""
    script = next(path for path in installed.python.parent.iterdir() if path.stem == "hnet-lm")
    subprocess.run([script, "new", "short.toml", "--from", "demo"], cwd=installed.folder, check=True)
    shorten(installed.folder / "short.toml")
    demo, _, text, _, measured = installed.run(
        ["demo", "short.toml"],
        ["train", "english", "--data.sources.0.path", "mine.txt", "--run.directory", "runs/mine", *FEW],
        ["generate", "runs/mine", "It was", "--max-new-bytes", "5"],
        ["chunks", "runs/mine", "It was the best of times.", "--html", "chunks.html", "--png", "chunks.png"],
        ["evaluate", "bpb", "runs/mine", "mine.txt"],
    )
    for shown in ("H-Net, trained", "xz", "gzip", "bytes per chunk", "runs/short/chunks.html"):
        assert shown in demo
    written = {path.name for path in (installed.folder / "runs/short").iterdir()}
    assert {"config.json", "model.safetensors", "metrics.jsonl", "loss.png", "chunks.html"} <= written
    assert len((installed.folder / "runs/mine/metrics.jsonl").read_text().splitlines()) >= 2
    assert text
    assert (installed.folder / "chunks.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (installed.folder / "chunks.html").read_text(encoding="utf-8")
    assert "mine.txt" in measured


def shorten(file: Path) -> None:
    """Edit the run file as a person would."""
    text = file.read_text()
    changes = {"num_steps": 2, "tokens_per_batch": 256, "max_length": 128, "max_bytes": 700}
    for key, value in {**changes, "config": '"tiny_1stage"'}.items():
        text, count = re.subn(rf"^{key} = [^#\n]+?( *)(#|$)", rf"{key} = {value}\1\2", text, flags=re.MULTILINE)
        assert count == 1, key
    file.write_text(text)


def test_serve_and_a_request(installed: Installed) -> None:
    script = "import hnet_lm; hnet_lm.save(hnet_lm.HNetLM(hnet_lm.HNetConfig.load('tiny_2stage')), 'runs/other')"
    code = f"{script}; from hnet_lm.cli.main import main; main(['serve', 'runs/other', '--port', '0'])"
    server = installed.start("-c", code)
    try:
        assert server.stderr is not None
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail(f"no address: {lines} {server.stderr.read()}")
        body = json.dumps({"model": "other", "prompt": "It was", "max_tokens": 4}).encode()
        request = Request(f"{found[0]}/v1/completions", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=120) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] <= 4
        with urlopen(found[0], timeout=60) as page:
            assert b"<html" in page.read()
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
    finally:
        server.kill()
        server.communicate()
