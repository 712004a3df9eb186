"""What the README names is real: commands, targets, tree. `test_docs.py` runs its commands and its Python."""

import re
from pathlib import Path

from hnet_lm.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_command_named_exists():
    named = set(re.findall(r"^hnet-lm (\w+)", "".join(blocks("sh")), flags=re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)


def test_make_targets_named_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_tree_is_real():
    package = [line.split()[0] for line in README.splitlines() if re.match(r"^  \w+(\.py|/) ", line)]
    assert len(package) > 8
    for entry in package:
        assert (ROOT / "src/hnet_lm" / entry).exists(), entry
