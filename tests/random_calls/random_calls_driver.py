"""Makes random calls of public functions and writes what happened as JSON. `random_calls_driver.py SEED NUMBER [ONLY]`.

A process of its own: it may crash, and the functions are called as a user calls them, without the shape-checking hook
of the tests. Every call is announced on standard error before it is made, so that the last line names the culprit.
"""

import json
import sys
from collections import Counter
from random import Random

import torch
from model_calls import (
    chunks_call,
    generate_call,
    loss_call,
    model_call,
    part_call,
    rows_call,
    score_call,
    sequences_call,
    state_call,
)
from op_calls import op_call

FAMILIES = (
    (op_call, 640),
    (sequences_call, 120),
    (state_call, 60),
    (loss_call, 60),
    (model_call, 25),
    (rows_call, 20),
    (part_call, 20),
    (generate_call, 20),
    (score_call, 15),
    (chunks_call, 20),
)
"""What is drawn, and how often in a thousand. Whoever adds a public function adds its calls here."""


def main(seed: int, number: int, only: int | None = None) -> None:
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    draws, weights = zip(*FAMILIES, strict=True)
    for index in [only] if only is not None else range(number):
        random = Random(f"{seed} {index}")
        torch.manual_seed(random.getrandbits(60))
        call = random.choices(draws, weights)[0](random)
        sys.stderr.write(f"{index} {call}\n")
        sys.stderr.flush()
        outcome = call.outcome()
        outcomes[f"{call.family} {outcome if outcome in ('done', 'refused') else 'failed'}"] += 1
        if outcome not in ("done", "refused"):
            failures.append(f"call {index} of seed {seed}: {call} {outcome}")
            sys.stderr.write(f"{failures[-1]}\n")
    json.dump({"outcomes": outcomes, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
