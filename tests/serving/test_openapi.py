"""The server does what its OpenAPI description says: schemathesis asks, within the description and beyond it."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import schemathesis_hooks
from running_server import MODEL, Running, running

from hnet_lm.model import HNetLM
from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.limits import RequestLimits
from thoroughness import examples

KEY = "a-key"


@pytest.mark.scaled
def test_the_server_does_what_its_description_says(model: HNetLM, tmp_path: Path):
    """All checks: valid requests are taken, others refused, answers are as described, no path without its key."""
    limits = RequestLimits(max_new_bytes=6, max_texts=schemathesis_hooks.MAX_TEXTS)
    with running({MODEL: model}, limits, keys=ApiKeys([KEY])) as server:
        command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
        command += [f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {KEY}", "--checks", "all"]
        command += [
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            str(examples(4)),
            "--seed",
            "1",
            "--no-color",
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
            "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        }
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 selected / 8 total" in done.stdout
    assert "Failures" not in done.stdout


def test_the_description_names_this_servers_limits_and_models(server: Running):
    found = httpx.get(f"{server.url}/openapi.json").json()
    fields = found["components"]["schemas"]["CompletionBody"]["properties"]
    assert fields["max_tokens"]["anyOf"][0]["maximum"] == 4000
    assert fields["n"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 64}
    assert fields["model"]["anyOf"][0]["enum"] == [MODEL]
    assert "securitySchemes" not in found["components"]
    assert not any("422" in operation["responses"] for path in found["paths"].values() for operation in path.values())


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_loads_scripts_from_elsewhere(server: Running, path: str):
    assert httpx.get(server.url + path).status_code == 404
