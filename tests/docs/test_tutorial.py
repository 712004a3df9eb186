"""docs/tutorial.md, followed to the letter in an empty environment, prints what it shows.

A command is a block of `sh` or `python`, and the block of `text` behind it is what it prints. Figures are compared with
a tolerance, since processors round differently, and so is the length of a text that the model wrote. Cuts must be
nearly the same. Speeds are not compared. `...` stands for any lines.
"""

import re
import subprocess
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from installed_wheel import ROOT, Installed, build_wheel, install

PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
INSTALLATION = re.compile(r"python -m venv|pip install")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
SPEED = re.compile(r"[\d.,]+( ?[kM]?B/s| ?k/s|% of matmul peak)")
TOLERANCE, POINTS = 0.15, 3.0
"""How far a figure may be off, as a share of it; and where it has one decimal, as shares in per cent and lengths have,
at least by so much: a share of 5 % can be one of 6 %."""
LIKENESS = 0.7
"""Of two lines of cuts: the share of characters in common."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(build_wheel(tmp_path_factory.mktemp("dist")), tmp_path_factory.mktemp("empty"))


def steps() -> list[tuple[str, str, str | None]]:
    """Language and text of each block to run, and what stands behind it as its output."""
    found: list[tuple[str, str, str | None]] = []
    for language, text in BLOCKS:
        if language in ("sh", "python"):
            found.append((language, text, None))
        elif language == "text":
            found[-1] = (*found[-1][:2], text)
    return [step for step in found if not INSTALLATION.search(step[1])]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_tutorial_prints_what_it_shows(installed: Installed) -> None:
    shown = 0
    for language, text, expected in steps():
        program = ["bash", "-e", "-c"] if language == "sh" else [str(installed.python), "-c"]
        done = subprocess.run(
            [*program, text], cwd=installed.folder, env=installed.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{text}{done.stderr}"
        if expected is not None:
            shown += 1
            if text.startswith("hnet-lm generate"):
                assert len(done.stdout) == pytest.approx(len(expected), rel=TOLERANCE)
            else:
                assert (why := difference(expected, done.stdout)) is None, f"{text}{why}\n{done.stdout}"
    assert shown >= 6
    for path in re.findall(r"^\| `([\w./]+)` \|", PAGE, flags=re.MULTILINE):
        assert Path(installed.folder, path).exists(), path


def difference(expected: str, printed: str) -> str | None:
    """The first line that was not printed, or None."""
    lines = [line for line in printed.splitlines() if line.strip()]
    places = {0}  # where the next line may be: `...` leaves several open, and lines of a progress are like each other
    for line in filter(str.strip, expected.splitlines()):
        if line.strip() == "...":
            places = set(range(min(places), len(lines) + 1))
            continue
        places = {place + 1 for place in places if place < len(lines) and is_like(line, lines[place])}
        if not places:
            return f"not printed: {line}"
    return None if len(lines) in places else f"not shown: {lines[max(places)]}"


def is_like(expected: str, printed: str) -> bool:
    """The same words with nearly the same figures, or nearly the same cuts."""
    wanted, found = (SPEED.sub("SPEED", line) for line in (expected, printed))
    if [NUMBER.sub("N", word) for word in wanted.split()] == [NUMBER.sub("N", word) for word in found.split()]:
        return all(map(is_near, NUMBER.findall(wanted), NUMBER.findall(found)))
    is_drawn = "┗" in expected
    return is_drawn and SequenceMatcher(None, wanted, found, autojunk=False).ratio() >= LIKENESS


def is_near(expected: str, printed: str) -> bool:
    wanted, found = (float(number.replace(",", "")) for number in (expected, printed))
    has_one_decimal = len(expected.partition(".")[2]) == 1
    return abs(wanted - found) <= max(TOLERANCE * abs(wanted), POINTS if has_one_decimal else 0)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("step 2/9  2.79 bits/byte  4 kB/s", "step 2/9  2.90 bits/byte  17 kB/s"),
        ("...\nb 1", "a\nc\nb 1.05"),
        ("stage 0 ┗━━━┗━━━━┗━━", "stage 0 ┗━━━┗━━━━━━━"),
        ("a\n...", "a\nb"),
        ("8.21  68.6  6.0", "8.68  64.5  4.8"),
        ("...\nstep 120  3.08\nheld out", "step 114  2.79\nstep 120  3.08\nheld out"),
    ],
)
def test_like_outputs(expected: str, printed: str) -> None:
    assert difference(expected, printed) is None


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("2.79 bits", "3.79 bits"),
        ("2.79 bits", "2.79 bytes"),
        ("68.6  6.0", "68.6  9.5"),
        ("a", "a\nb"),
        ("a\nb", "a"),
        ("...\nb", "a"),
        ("stage 0 ┗━━━┗━━━━┗━━", "stage 0 ┗┗┗┗┗┗┗┗┗┗┗"),
    ],
)
def test_unlike_outputs(expected: str, printed: str) -> None:
    assert difference(expected, printed)
