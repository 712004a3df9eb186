"""A saved model: a directory of `config.json` (the reference schema), `model.safetensors` (our names) and a README.md.

A directory is written next to its final place under a name that nobody reads, flushed to the disk, and renamed: its own
name never refers to a part of a model. Reading checks everything before it returns; whatever does not fit is one
`CheckpointError` or `ConfigError`.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError
from hnet_lm.extras import import_leaf
from hnet_lm.model import HNetLM
from hnet_lm.model_card import CARD, ModelCard, card_for
from hnet_lm.shards import INDEX_SUFFIX, read_sharded
from hnet_lm.trained_models import FOLDER as TRAINED
from hnet_lm.trained_models import models, trained_directory
from hnet_lm.weights import fill, meta_model, read_safetensors

CONFIG, WEIGHTS = FILES = ("config.json", "model.safetensors")
INDEX = WEIGHTS + INDEX_SUFFIX
"""In its place frameworks write an index of several files; it is read, and never written here."""
SHARDS = "model*.safetensors"
"""Those files, and WEIGHTS, as a pattern."""
HUB_PREFIX = "hf:"
ADAPTER_CONFIG = "adapter_config.json"
"""In a folder of peft's, which has no weights but those of an adapter."""


def save(
    model: HNetLM,
    directory: str | Path,
    *,
    beside: Mapping[str, bytes] | None = None,
    card: ModelCard | None = None,
) -> None:
    """Write the model to a directory, which may not be there yet; a saved model that is there is replaced.

    `beside` are further files of it by name, such as the tokenizer of a model of tokens; `card` is what the README.md
    says beyond the size of the model. A README.md of somebody's own stays.

    Raises CheckpointError, and then nothing has changed: a directory that holds anything else is left alone.
    """
    directory = Path(directory)
    files = {CARD: b"", **(beside or {})}
    with replacing(directory, (*FILES, *files)) as partial:
        write_files(model.config, model.state_dict(), partial)
        for name, data in (files | {CARD: card_for(directory, model.config, card)}).items():
            (partial / name).write_bytes(data)
            flush(partial / name)


@contextlib.contextmanager
def replacing(directory: Path, files: Collection[str]) -> Iterator[Path]:
    """A folder to write into, which takes the directory's place when the block ends, and is removed if it fails.

    Raises CheckpointError for a directory that holds more than these files, and for what keeps the block from writing.
    """
    partial = directory.parent / f".{directory.name}.{secrets.token_hex(4)}.partial"
    made: list[Path] = []
    try:
        _check_replaceable(directory, files)
        made = make_folders(partial)
        yield partial
        flush(partial)
        _move_into_place(partial, directory)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(made)
        if isinstance(error, OSError | SafetensorError):
            raise CheckpointError(f"{directory}: cannot be written: {reason(error)}") from error
        raise


def load(source: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> HNetLM:
    """The model saved in a directory, on the hub as `hf:owner/name` (extra `hf`), or in the package as `english-small`.

    `dtype` None keeps the type it was saved in; a model of the package is computed with in float32. Raises
    CheckpointError or ConfigError.
    """
    directory = local_directory(source, (CONFIG, INDEX, SHARDS))
    if dtype is None and directory.parent == TRAINED:
        dtype = torch.float32
    try:
        _check_is_saved(directory)
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be read: {reason(error)}") from error
    model = meta_model(HNetConfig.load(directory / CONFIG))
    names = {name: name for name, _ in model.named_parameters()}
    return fill(model, read_weights(directory), names, str(directory / WEIGHTS), dtype, device)


def local_directory(source: str | Path, files: tuple[str, ...]) -> Path:
    """The directory itself, that of a model of the package, or one of the local cache with these files of a hub model.

    Raises CheckpointError.
    """
    if not str(source).startswith(HUB_PREFIX):
        return trained_directory(str(source)) or Path(source)
    hub = import_leaf("hnet_lm.hub", "hf", f"loading {source}")
    return hub.fetch(str(source).removeprefix(HUB_PREFIX), files)


def write_files(config: HNetConfig, weights: Mapping[str, Tensor], directory: Path) -> None:
    """Write config and weights into a directory, which must exist, and flush them to the disk."""
    (directory / CONFIG).write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    write_weights(weights, directory / WEIGHTS)
    for name in FILES:
        flush(directory / name)


def write_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors by name as safetensors. Raises OSError or SafetensorError."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    file.touch()
    mode = file.stat().st_mode  # as the user's umask has it; safetensors would let nobody else read the file
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(mode)


def read_weights(directory: Path, file: str = WEIGHTS) -> dict[str, Tensor]:
    """The tensors of a saved model by name, or those of another file of its directory."""
    if file == WEIGHTS and (directory / INDEX).exists() and not (directory / WEIGHTS).exists():
        return read_sharded(directory / INDEX, read_safetensors)
    return read_safetensors(directory / file)


def _check_replaceable(directory: Path, files: Collection[str]) -> None:
    if not directory.name or directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise CheckpointError(f"{directory}: is no directory that can be replaced; choose another name")
    others = (
        sorted(entry.name for entry in directory.iterdir() if entry.name not in files) if directory.exists() else []
    )
    if others:
        raise CheckpointError(
            f"{directory}: holds other files ({', '.join(others[:3])}); save to a directory of its own"
        )


def _move_into_place(partial: Path, directory: Path) -> None:
    """Rename; a saved model in the way is set aside first and removed when the new one is there."""
    if not directory.exists():
        partial.rename(directory)
    else:
        replaced = partial.with_suffix(".replaced")
        directory.rename(replaced)
        try:
            partial.rename(directory)
        except OSError:
            replaced.rename(directory)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    flush(directory.parent)


def make_folders(path: Path) -> list[Path]:
    """Make a directory and the parents it lacks; returns those made, outermost first. Raises OSError.

    A directory that is there already is no error.
    """
    made: list[Path] = []
    try:
        for folder in (*reversed(path.parents), path):
            if not folder.is_dir():
                with contextlib.suppress(FileExistsError):  # another process may make it at the same moment
                    folder.mkdir()
                    made.append(folder)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(folders: list[Path]) -> None:
    """Take back what `make_folders` made, as far as nobody has put anything there."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, in the system's words: "No space left on device"."""
    number = re.search(r"os error (\d+)", str(error))  # an error of Rust, as safetensors passes it on
    if number is not None:
        return os.strerror(int(number[1]))
    return getattr(error, "strerror", None) or str(error)


def flush(path: Path) -> None:
    """Wait until a file, or a directory's list of names, is on the disk.

    Windows opens no directories, and writes back only what is open for writing.
    """
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_is_saved(directory: Path) -> None:
    if not directory.exists():
        replaced = sorted(directory.parent.glob(f".{directory.name}.*.replaced"))
        hint = f"; a model on the hub is named {HUB_PREFIX}owner/name"
        if directory.name == str(directory):
            hint += f", and these come with hnet-lm: {', '.join(model.name for model in models())}"
        if replaced:
            hint = f"; replacing it was interrupted, and the model that was there is {replaced[-1]}"
        raise CheckpointError(f"{directory}: no such directory{hint}")
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: is a file; a saved model is a directory with {' and '.join(FILES)}")
    here = {name for name in (*FILES, INDEX) if (directory / name).exists()}
    missing = [name for name in FILES if name not in here and not (name == WEIGHTS and INDEX in here)]
    if missing and (directory / ADAPTER_CONFIG).exists():
        raise CheckpointError(
            f"{directory}: is an adapter; `hnet-lm convert {directory} DIRECTORY` adds it to the model it is for"
        )
    if missing:
        raise CheckpointError(
            f"{directory}: is no saved model, it has no {' and no '.join(missing)} "
            "(the reference code's files are read by load_official and `hnet-lm convert`)"
        )
