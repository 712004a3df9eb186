"""Weights in several files, as frameworks save large models: `NAME.index.json` says which file has which tensor.

    {"metadata": {...}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors", ...}}

The files lie beside the index. What the index does not name is not read.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hnet_lm.errors import CheckpointError
from hnet_lm.inputs import read_text

INDEX_SUFFIX = ".index.json"


def read_sharded(index: Path, read: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Every tensor that the index names, by name; `read` reads one file. Raises CheckpointError."""
    names_of: dict[str, list[str]] = {}
    for name, file in _weight_map(index).items():
        names_of.setdefault(file, []).append(name)
    missing = sorted(file for file in names_of if not (index.parent / file).exists())
    if missing:
        raise CheckpointError(
            f"{index}: {len(missing)} of the {len(names_of)} files that it names are not beside it, "
            f"the first is {missing[0]}; fetch them too"
        )
    tensors: dict[str, Any] = {}
    for file, names in names_of.items():
        found = read(index.parent / file)
        for name in names:
            if name not in found:
                raise CheckpointError(f"{index.parent / file}: has no tensor {name!r}, which {index.name} says it has")
            tensors[name] = found[name]
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Raises CheckpointError for what is no index, and for a file that is not beside it."""
    try:
        content = json.loads(read_text(index, CheckpointError))
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{index}: not an index of weights: not JSON") from error
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise CheckpointError(f"{index}: not an index of weights: it has no 'weight_map' from tensors to files")
    for file in files.values():
        if file in ("", ".", "..") or "/" in file or "\\" in file or "\0" in file:
            raise CheckpointError(f"{index}: names the file {file!r}; files of weights lie beside their index")
    return files
