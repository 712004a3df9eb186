"""What torchrun starts in these tests: a rank of a run, which may kill itself. A script with a JSON file.

The file has the run's table, and under `kill` which rank dies, before which update, in the first attempt of torchrun.
`progress` names a file that says how many updates the first rank has made; `pause` are seconds before each.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from hnet_lm.tables import from_table
from hnet_lm.training import loop, records
from hnet_lm.training.config import RunConfig


def main(asked: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    records.matmul_peak = lambda *_: 1e9  # would be measured for seconds
    made, update = 0, loop.update
    kill = asked.get("kill")

    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal made
        is_first_attempt = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if kill and is_first_attempt and os.environ["RANK"] == str(kill["rank"]) and made == kill["after"]:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(asked.get("pause", 0.0))
        result = update(*arguments, **options)
        made += 1
        if os.environ["RANK"] == "0" and "progress" in asked:
            Path(asked["progress"]).write_text(str(made))
        return result

    loop.update = watched
    loop.train(from_table(RunConfig, asked["table"]))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
