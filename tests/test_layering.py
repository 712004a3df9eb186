"""The layers of the package hold: who may import whom, nothing hidden in functions, optional packages in leaf files."""

import re
import tomllib
from pathlib import Path

import pytest

from import_graph import Package, careless_optional_imports, imports_in_functions, wrong_edges

ROOT = Path(__file__).parents[1]

PLAIN = ("errors", "extras", "registry", "tables", "checks")
BASE = (
    "config",
    "stage_config",
    "attention_config",
    "chunker_config",
    "chunking_config",
    "ngram_config",
    "layout",
    "sequences",
    "state",
    *PLAIN,
)
"""What the model stands on, and everything above it may use as well."""

READING = (*BASE, "inputs")
"""For parts that read files."""

MODEL_INWARDS = (
    ("sizes",),
    ("lm",),
    ("padding", "initialization", "ngrams"),
    ("hnet",),
    ("rounding",),
    ("dynamic_chunking", "isotropic"),
    ("block",),
    ("mixers",),
    ("layers", "written"),
)
"""Parts of the model; each may import only those further down."""

ALLOWED: dict[str, tuple[str, ...]] = {
    "errors": (),
    "extras": ("errors",),
    "checks": ("errors",),
    "tables": ("errors",),
    "registry": ("tables", "errors"),
    "inputs": PLAIN,
    "named_configs": ("inputs", "errors"),
    "config": (
        *("stage_config", "attention_config", "checks", "chunker_config", "chunking_config"),
        *("ngram_config", "layout", "named_configs", "inputs", "tables", "errors"),
    ),
    "stage_config": ("attention_config", "checks", "layout", "errors"),
    "attention_config": ("checks", "rotary_scaling", "errors"),
    "rotary_scaling": ("checks", "errors"),
    "layout": ("errors",),
    "chunker_config": ("registry", "checks", "errors"),
    "chunking_config": ("tables", "checks", "errors"),
    "ngram_config": ("checks", "tables", "errors"),
    "sequences": ("errors",),
    "state": ("errors",),
    "ops": ("sequences", "state", *PLAIN),
    "model": (),
    **{
        f"model.{part}": (*BASE, "ops", *(f"model.{below}" for row in MODEL_INWARDS[rank + 1 :] for below in row))
        for rank, parts in enumerate(MODEL_INWARDS)
        for part in parts
    },
    "model.flops": ("config", "stage_config", "chunker_config", "layout", "errors"),
    "losses": ("model.dynamic_chunking", "ops", *BASE),
    "hub": PLAIN,
    "outputs": ("errors",),
    "figures": (),
    "trained_models": (),
    "weights": ("model", *READING),
    "shards": ("inputs", *PLAIN),
    "model_card": ("config", "model", "errors"),
    "checkpoint": ("weights", "shards", "trained_models", "hub", "model", "model_card", *READING),
    "official": ("weights", "shards", "model", *READING),
    "conversion": ("official", "checkpoint", "named_configs", "outputs", "model", "errors"),
    "pretrained": ("checkpoint", "weights", "outputs", "model", "data", "generation", *READING),
    "lora": ("checkpoint", "weights", "model", "errors"),
    "tokenizer": ("checkpoint", "data"),
    "baselines": ("model", *BASE),
    "genome": ("inputs", *PLAIN),
    "data": ("sequences", "inputs", *PLAIN),
    "data.formats.fasta": ("data", "genome.codes", "inputs", *PLAIN),
    "data.split": ("data", "genome.codes", "inputs", *PLAIN),
    "generation": ("model", *BASE),
    "generation.stepper": ("model", "ops", "generation.boundaries", "generation.rounded_weights", *BASE),
    "evaluation": ("figures", "model", "losses", "data", "generation", "genome", "inspect", *READING),
    "training": (
        "figures",
        "model",
        "losses",
        "lora",
        "data",
        "checkpoint",
        "model_card",
        "evaluation",
        "named_configs",
        "trained_models",
        "weights",
        *READING,
    ),
    "distillation": (
        *("model", "losses", "data", "checkpoint", "evaluation", "generation", "tokenizer", "outputs", *READING),
    ),
    "testing": ("model", "ops", "losses", "data", "checkpoint", "generation", *READING),
    "hf": ("checkpoint", "model", "model_card", "losses", "training", *READING),
    "inspect": ("figures", "model", "genome", *READING),
    "web": ("generation.rounded_weights", "model", *BASE),
    "serving": ("generation", "inspect", "model", "web", *READING),
    "cli": ("*",),
    "__main__": ("cli",),
    "": ("*",),
}
ALLOWED["model.sizes"] += ("model.flops",)
# Some files go further than their folder, each for one thing.
ALLOWED["evaluation.harness"] = (*ALLOWED["evaluation"], "evaluation", "checkpoint")  # is told the path of a model
ALLOWED["training.validation"] = (*ALLOWED["training"], "training", "generation")  # shows what the model writes

LEAF_FOLDERS = ("hnet_lm.hf", "hnet_lm.serving")
"""Folders that as a whole are for those who installed an extra."""


@pytest.fixture(scope="module")
def hnet_lm() -> Package:
    return Package.read(ROOT / "src" / "hnet_lm")


@pytest.fixture(scope="module")
def core() -> frozenset[str]:
    """The packages that are always installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return frozenset(re.split(r"[^\w-]", name)[0].replace("-", "_") for name in project["dependencies"])


def test_only_the_allowed_edges(hnet_lm: Package) -> None:
    assert not [str(edge) for edge in wrong_edges(hnet_lm, ALLOWED)]


def test_every_part_of_the_model_has_its_place(hnet_lm: Package) -> None:
    """A new file in model/ must be put into the order before it may import anything."""
    parts = {module.split(".")[2] for module in hnet_lm.modules if module.startswith("hnet_lm.model.")}
    assert {f"model.{part}" for part in parts} <= ALLOWED.keys()


def test_nobody_imports_the_command_line(hnet_lm: Package) -> None:
    importers = {edge.importer for edge in hnet_lm.own() if edge.imported.startswith("hnet_lm.cli")}
    assert {name.removeprefix("hnet_lm.").split(".")[0] for name in importers} <= {"cli", "__main__"}


def test_only_commands_change_the_memory_of_the_process(hnet_lm: Package) -> None:
    """Who calls `train` from a program of their own keeps the allocator as they have it."""
    importers = {edge.importer for edge in hnet_lm.own() if edge.imported == "hnet_lm.training.memory"}
    assert importers
    assert all(name.startswith("hnet_lm.cli.") for name in importers)


def test_no_import_hides_in_a_function(hnet_lm: Package) -> None:
    assert not [str(edge) for edge in imports_in_functions(hnet_lm)]


def test_optional_packages_only_in_leaf_files(hnet_lm: Package, core: frozenset[str]) -> None:
    assert {"torch", "numpy", "jaxtyping"} <= core
    assert not [str(edge) for edge in careless_optional_imports(hnet_lm, core, LEAF_FOLDERS)]


RULES = {
    "low": (),
    "high": ("low",),
    "high.inner": ("low",),
    "high.outer": ("high.inner",),
    "cli": ("*",),
    "": ("*",),
}

CLEAN = {
    "__init__.py": "from toy.high import h",
    "low.py": "import json\nimport torch",
    "high/__init__.py": "from toy.high.outer import o",
    "high/inner.py": "from toy import low",
    "high/outer.py": "from toy.high.inner import i\nfrom . import inner",
    "cli/main.py": "from toy.high import h\nimport importlib\n\ndef f():\n    importlib.import_module('toy.leaf')",
    "leaf.py": "import matplotlib.pyplot",
}


def toy(folder: Path, files: dict[str, str]) -> Package:
    for name, source in (CLEAN | files).items():
        path = folder / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source + "\n")
    return Package.read(folder / "toy")


def test_the_checker_finds_nothing_where_nothing_is_wrong(tmp_path: Path) -> None:
    package = toy(tmp_path, {})
    assert wrong_edges(package, {**RULES, "leaf": ()}) == []
    assert imports_in_functions(package) == []
    assert careless_optional_imports(package, frozenset({"torch"})) == []


@pytest.mark.parametrize(
    ("file", "source", "edge"),
    [
        ("low.py", "from toy.high import h", "toy.low, line 1: imports toy.high"),
        ("low.py", "import toy.high.inner as i", "toy.low, line 1: imports toy.high.inner"),
        ("low.py", "\nfrom toy import high", "toy.low, line 2: imports toy.high"),
        ("low.py", "from . import high", "toy.low, line 1: imports toy.high"),
        ("low.py", "from .high.inner import i", "toy.low, line 1: imports toy.high.inner"),
        ("low.py", "import toy", "toy.low, line 1: imports toy"),
        ("low.py", "def f():\n    from toy.high import h", "toy.low, line 2: imports toy.high"),
        (
            "low.py",
            "import importlib\nimportlib.import_module('toy.cli.main')",
            "toy.low, line 2: imports toy.cli.main",
        ),
        ("low.py", "x = import_leaf(f'toy.cli.{name}', 'extra')", "toy.low, line 1: imports toy.cli"),
        ("low.py", "if TYPE_CHECKING:\n    from toy.high import h", "toy.low, line 2: imports toy.high"),
        ("high/inner.py", "from toy.high.outer import o", "toy.high.inner, line 1: imports toy.high.outer"),
        ("high/inner.py", "from toy.high import h", "toy.high.inner, line 1: imports toy.high"),
        ("high/inner.py", "from toy.cli import main", "toy.high.inner, line 1: imports toy.cli.main"),
        ("unheard_of.py", "import toy.low", "toy.unheard_of, line 1: imports toy.low"),
    ],
)
def test_the_checker_finds_a_forbidden_edge(tmp_path: Path, file: str, source: str, edge: str) -> None:
    assert [str(found) for found in wrong_edges(toy(tmp_path, {file: source}), RULES)] == [edge]


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from toy.low import x",
        "class C:\n    async def f(self):\n        import toy.low",
        "def f():\n    if g():\n        from toy import low",
    ],
)
def test_the_checker_finds_an_import_in_a_function(tmp_path: Path, source: str) -> None:
    package = toy(tmp_path, {"high/outer.py": source})
    assert [found.imported for found in imports_in_functions(package)] == ["toy.low"]


@pytest.mark.parametrize(
    ("file", "source", "importer"),
    [
        ("low.py", "from toy.leaf import draw", "toy.low"),
        ("low.py", "from toy import leaf", "toy.low"),
        ("low.py", "def f():\n    import matplotlib", "toy.low"),
        ("low.py", "try:\n    import toy.leaf\nexcept ImportError:\n    pass", "toy.low"),
    ],
)
def test_the_checker_finds_an_optional_package_that_all_would_need(
    tmp_path: Path, file: str, source: str, importer: str
) -> None:
    found = careless_optional_imports(toy(tmp_path, {file: source}), frozenset({"torch"}))
    assert [edge.importer for edge in found] == [importer]


def test_a_leaf_may_be_named_for_types_and_used_by_another_leaf(tmp_path: Path) -> None:
    files = {
        "low.py": "if TYPE_CHECKING:\n    from toy.leaf import Figure",
        "leaf2.py": "import fastapi\nimport toy.leaf",
    }
    assert careless_optional_imports(toy(tmp_path, files), frozenset({"torch"})) == []


def test_within_a_leaf_folder_leaves_are_at_home_and_from_outside_not(tmp_path: Path) -> None:
    files = {
        "extra/a.py": "import toy.leaf",
        "extra/b.py": "import toy.extra.a",
        "extra/plain.py": "import json",
        "low.py": "import toy.extra.plain\nimport toy.extra.b",
    }
    package = toy(tmp_path, files)
    found = careless_optional_imports(package, frozenset({"torch"}), ["toy.extra"])
    assert [edge.imported for edge in found if edge.importer == "toy.low"] == ["toy.extra.b"]
