"""`hnet-lm new my.toml --from english`: a run file to edit, every key commented, made from one of the package."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.errors import ConfigError, UserError
from hnet_lm.inputs import read_text
from hnet_lm.named_configs import named, nearest_names
from hnet_lm.outputs import Output

ENDING = "toml"


@dataclass(frozen=True)
class Command:
    """Write a run file to edit, with a comment at every key. An existing file is never replaced."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE.toml")]
    """The file to write; - is standard output."""
    source: Annotated[str, tyro.conf.arg(name="from", metavar="NAME")] = "english"
    """The run to start from, one that comes with hnet-lm: demo, english, chinese, code, dna, large_1stage, ..."""

    def run(self) -> None:
        found = named(self.source, "runs")
        if found is None:
            raise ConfigError(f"--from {self.source}: no run of that name; {nearest_names(self.source, 'runs')}")
        output = Output.tried(self.file, (ENDING,))
        if output.is_standard_output:
            output.write(read_text(found))
            return
        if output.path.exists():
            raise UserError(f"{self.file}: exists already and is not replaced; name another file")
        output.write(own_run(read_text(found), found.stem, self.file))
        print(f"{self.file}: edit the path of its data, then: hnet-lm train {self.file}")


def own_run(text: str, name: str, file: str) -> str:
    """The run file under a name of its own: the command in its heading, and a folder beside that of the original."""
    text = re.sub(rf"(hnet[-_]lm train ){name}\b", lambda match: match[1] + file, text)
    directory = json.dumps(f"runs/{Path(file).stem}", ensure_ascii=False)  # a string of JSON is one of TOML
    return re.sub(rf'^directory = "runs/{name}"', lambda _: f"directory = {directory}", text, flags=re.MULTILINE)
