"""docs/serving.md: the client it shows gets answers."""

import re
from pathlib import Path

import pytest
from running_server import MODEL, Running

PAGE = Path(__file__).parents[2] / "docs/serving.md"


def test_the_documented_client_runs(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for printed, here in (("http://127.0.0.1:8000", server.url), ('model="demo"', f'model="{MODEL}"')):
        assert printed in code
        code = code.replace(printed, here)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["answer"].choices[0].text  # pyright: ignore[reportAttributeAccessIssue]: a client's object
    assert capsys.readouterr().out
