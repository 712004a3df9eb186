"""The wheel in an empty environment, for tests of what somebody has who has nothing of this repository.

The environment has no package but the wheel; what that depends on is seen in the environment of the tests through a
`.pth` file, since installing torch again would take minutes.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
END = "-- end --"
COMMANDS = f"""
import json, sys
from hnet_lm.cli.main import main
for arguments in json.loads(sys.argv[1]):
    assert main(arguments) == 0, arguments
    print({END!r}, end="")
"""


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and an empty folder to work in."""

    python: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """That of somebody who has activated it."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        path = os.pathsep.join([str(self.python.parent), own["PATH"]])
        return own | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "PATH": path}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Python as somebody would start it who has nothing of this repository."""
        return subprocess.Popen(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *commands: Sequence[str]) -> list[str]:
        """What each command prints; all of them in one process, since torch takes seconds to import."""
        process = self.start("-c", COMMANDS, json.dumps(commands))
        out, err = process.communicate(timeout=280)
        assert process.returncode == 0, err
        return out.split(END)[:-1]


def build_wheel(folder: Path) -> Path:
    """Built from the files of the repository as they are."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, root: Path) -> Installed:
    venv.create(root / "venv", with_pip=False)
    python = next(path for path in (root / "venv/bin/python", root / "venv/Scripts/python.exe") if path.exists())
    place = sysconfig.get_path("purelib", vars={"base": str(root / "venv"), "platbase": str(root / "venv")})
    target = ["--python", str(python), "install", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", *target, str(wheel)], check=True, capture_output=True)
    Path(place, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (root / "work").mkdir()
    return Installed(python, root / "work")
