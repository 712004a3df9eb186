"""The command: names, mistakes, and that its help needs no server packages."""

import ipaddress
import socket
import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hnet_lm.checkpoint import CONFIG, WEIGHTS
from hnet_lm.cli.main import main
from hnet_lm.cli.serve import Command, named_sources
from hnet_lm.errors import UserError
from hnet_lm.serving.server import listen
from hnet_lm.training.run_folder import METRICS


def test_models_are_named_by_their_last_part_or_as_one_wishes():
    sources = named_sources(("runs/demo/", "hf:owner/name", "mine=runs/other"))
    assert sources == {"demo": "runs/demo/", "name": "hf:owner/name", "mine": "runs/other"}


@pytest.mark.parametrize(("models", "words"), [((), "at least one"), (("a/x", "b/x"), "NAME=b/x"), (("=x",), "name")])
def test_names_that_do_not_work(models: tuple[str, ...], words: str):
    with pytest.raises(UserError, match=words):
        named_sources(models)


def test_mistakes_are_one_line(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, words in (
            ([str(saved), "--port", port], f"port {port}: Address already in use"),
            ([str(saved), "--port", "70000"], "port 70000"),
            ([str(tmp_path / "nothing"), "--port", "0"], "no such directory"),
            (
                [str(saved), "--api-key-file", str(tmp_path / "keys")],
                "keys: cannot be read: No such file or directory\n",
            ),
            ([str(saved), "--limits.max-texts", "0"], "max_texts"),
            ([str(saved), "--precision", "int9"], "int9"),
            ([str(saved), "--allow-origin", "http://a.example/page"], "no path"),
            ([str(saved), "--rates.bytes-per-key", "0"], "bytes_per_key"),
        ):
            assert main(["serve", *arguments]) == 2
            message = capsys.readouterr().err
            assert words in message
            assert message.count("\n") == 1


def test_a_run_is_served_before_it_has_a_model(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "begun"
    run.mkdir()
    (run / METRICS).write_text('{"step": 1, "loss": 2.0, "bits_per_byte": 3.0, "bytes_seen": 100}\n')
    apps: list[FastAPI] = []
    monkeypatch.setattr("hnet_lm.serving.server.serve", lambda app, listener, *_: (apps.append(app), listener.close()))
    monkeypatch.setattr("hnet_lm.serving.app.LOOK_EVERY", 0.01)
    assert main(["serve", str(run), "--port", "0"]) == 0
    assert "begun: its run has written no checkpoint yet" in capsys.readouterr().out
    body = {"model": "begun", "prompt": "Once", "max_tokens": 3}
    with TestClient(apps[0]) as client:
        listed = client.get("/v1/models").json()
        assert (listed["data"], listed["awaited"]) == ([], ["begun"])
        assert client.get("/v1/runs/begun").json()["curves"][0]["points"] == [[1, 3.0]]
        assert client.get("/openapi.json").status_code == client.get("/health").status_code == 200
        for wish in (body, {"prompt": "Once"}):
            refused = client.post("/v1/completions", json=wish)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_checkpoint_yet")
        assert client.post("/v1/completions", json={**body, "model": "other"}).status_code == 404
        (run / WEIGHTS).write_bytes(b"no weights")
        (run / CONFIG).write_bytes((saved / CONFIG).read_bytes())
        time.sleep(0.1)
        assert client.get("/v1/models").json()["awaited"] == ["begun"], "what cannot be read is tried again"
        (run / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes())
        end = time.monotonic() + 30
        while client.get("/v1/models").json()["awaited"]:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] <= 3
        named = client.get("/openapi.json").json()["components"]["schemas"]["CompletionBody"]["properties"]["model"]
        assert named["anyOf"][0]["enum"] == ["begun"]


def test_the_server_listens_on_the_loopback_unless_told_otherwise():
    with listen(Command(models=("a",)).host, 0) as listener:
        assert ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def test_the_help_names_the_limits(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = capsys.readouterr().out
    for option in (
        "--limits.max-prompt-bytes",
        "--engine.max-active",
        "--api-key-file",
        "--drain-seconds",
        "--precision",
        "--allow-origin",
        "--log-requests",
        "--rates.requests-per-address",
        "MODEL",
    ):
        assert option in said
