"""Saved models on the Hugging Face hub. The only file that needs the package `huggingface_hub`."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hnet_lm.errors import CheckpointError


def fetch(name: str, files: tuple[str, ...]) -> Path:
    """The directory of the local cache with these files of `owner/name` or `owner/name@revision`.

    Raises CheckpointError. Whether the repository really has the files is for the reader of the directory to see.
    """
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(files)))
    except HFValidationError as error:
        raise CheckpointError(
            f"hf:{name}: not the name of a model, which is owner/name or owner/name@revision"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"hf:{name}: the repository {repository} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"hf:{name}: no such repository, or it is private and you are not logged in") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(f"hf:{name}: not in the local cache, and the hub cannot be reached") from error
    except (HfHubHTTPError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"hf:{name}: cannot be fetched: {first_line}") from error
