"""Saved models on the Hugging Face hub: fetched, and uploaded. A leaf: needs the package `huggingface_hub`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hnet_lm.errors import CheckpointError

MODEL_FILES = (
    *("config.json", "generation_config.json", "README.md", "model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "modeling_hnet_lm.py"),
)
"""What a model's directory may hold, as patterns."""


def fetch(name: str, files: tuple[str, ...]) -> Path:
    """The directory of the local cache with these files of `owner/name` or `owner/name@revision`.

    Raises CheckpointError. Whether the repository really has the files is for the reader of the directory to see.
    """
    repository, _, revision = name.partition("@")
    with _explained(f"hf:{name}", "fetched"):
        try:
            return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(files)))
        except RevisionNotFoundError as error:
            raise CheckpointError(f"hf:{name}: the repository {repository} has no revision {revision!r}") from error
        except LocalEntryNotFoundError as error:
            raise CheckpointError(f"hf:{name}: not in the local cache, and the hub cannot be reached") from error


def push(directory: str | Path, name: str, *, private: bool = False, message: str = "Upload a model") -> str:
    """Upload a saved or exported directory as `owner/name`, which is made if it is not there; returns its address.

    Only the files of a model are uploaded: of a run's folder neither checkpoints nor metrics. Raises CheckpointError,
    also where nobody is logged in (`hf auth login`).
    """
    directory = Path(directory)
    found = sorted({path.name for pattern in MODEL_FILES for path in directory.glob(pattern)})
    if "config.json" not in found or not any(file.endswith(".safetensors") for file in found):
        raise CheckpointError(f"{directory}: is no saved model: it has no config.json with weights (.safetensors)")
    api = HfApi()
    with _explained(f"hf:{name}", "uploaded"):
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=repository, folder_path=directory, allow_patterns=found, commit_message=message
        )
    return str(commit.commit_url)


@contextmanager
def _explained(what: str, done: str) -> Iterator[None]:
    """The hub's errors as one line. Raises CheckpointError."""
    try:
        yield
    except HFValidationError as error:
        raise CheckpointError(f"{what}: not the name of a model, which is owner/name or owner/name@revision") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"{what}: no such repository, or it is private and you are not logged in") from error
    except (HfHubHTTPError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        hint = " (log in with `hf auth login`)" if done == "uploaded" else ""
        raise CheckpointError(f"{what}: cannot be {done}: {first_line}{hint}") from error
