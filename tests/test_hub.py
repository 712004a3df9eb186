"""Uploading to the hub: what is sent, and what is said where it cannot be. The two calls of the hub are replaced."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalTokenNotFoundError

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError
from hnet_lm.hub import push
from hnet_lm.model import HNetLM


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    hnet_lm.save(HNetLM(HNetConfig.load("tiny_1stage")), tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of the two calls that would reach the hub."""
    calls: list[dict[str, Any]] = []

    def create_repo(self: HfApi, repo_id: str, **options: Any) -> Any:
        calls.append({"repo_id": repo_id, **options})
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self: HfApi, **options: Any) -> Any:
        calls.append(options)
        return SimpleNamespace(commit_url="https://hub.example/commit")

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    return calls


def test_only_the_files_of_a_model_are_sent(saved: Path, sent: list[dict[str, Any]]) -> None:
    (saved / "checkpoints").mkdir()
    (saved / "metrics.jsonl").write_text("{}")
    assert push(saved, "someone/tiny", private=True, message="first") == "https://hub.example/commit"
    made, uploaded = sent
    assert made == {"repo_id": "someone/tiny", "private": True, "exist_ok": True}
    assert uploaded == {
        "repo_id": "someone/tiny",
        "folder_path": saved,
        "allow_patterns": ["README.md", "config.json", "model.safetensors"],
        "commit_message": "first",
    }


def test_an_export_is_pushed(
    saved: Path, tmp_path: Path, sent: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "hf", str(saved), str(tmp_path / "new"), "--push", "someone/tiny"]) == 0
    assert "https://hub.example/commit" in capsys.readouterr().out
    assert set(sent[1]["allow_patterns"]) == {path.name for path in (tmp_path / "new").iterdir()}
    assert main(["export", "hf", str(saved), str(tmp_path / "other"), "--private"]) == 2
    assert not (tmp_path / "other").exists()


def test_what_keeps_a_model_from_being_sent(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="is no saved model"):
        push(tmp_path, "someone/tiny")
    with pytest.raises(CheckpointError, match="not the name of a model"):
        push(saved, "not a name")

    def nobody(self: HfApi, *_: Any, **__: Any) -> Any:
        raise LocalTokenNotFoundError("Token is required, but no token found.")

    monkeypatch.setattr(HfApi, "create_repo", nobody)
    with pytest.raises(CheckpointError, match=r"cannot be uploaded: Token is required.*hf auth login"):
        push(saved, "someone/tiny")
