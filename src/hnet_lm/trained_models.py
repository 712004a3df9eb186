"""The small trained models that come with the package, by name: `english-small`.

Such a name does wherever a saved model is named; a directory of that name wins. Each is a folder of `trained/`, a saved
model like any other with weights in bfloat16, its card as people read it (README.md) and as figures (card.json).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "trained"
FIGURES = "card.json"


@dataclass(frozen=True)
class TrainedModel:
    """A model of the package."""

    name: str
    directory: Path
    card: Mapping[str, Any]
    """`data`, `licence`, `num_parameters`, `trained_bytes`, and of each text under `measured` its bits per byte and
    bytes per chunk."""


def models() -> list[TrainedModel]:
    """All of them, by name."""
    folders = sorted(path.parent for path in FOLDER.glob(f"*/{FIGURES}"))
    return [TrainedModel(path.name, path, json.loads((path / FIGURES).read_text(encoding="utf-8"))) for path in folders]


def trained_directory(name: str) -> Path | None:
    """The saved model of that name, if one comes with the package and no directory here has its name."""
    is_name = Path(name).name == name and not Path(name).exists()
    return FOLDER / name if is_name and (FOLDER / name / FIGURES).is_file() else None
