"""Trains with compiled blocks, and writes what came of it as JSON. `compile_driver.py FOLDER`.

A process of its own: the shape-checking hook of the tests would stand between the compiler and the code. Graphs are
compared without inductor, whose C++ takes a minute; a run has it, as users do.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config
from torch._dynamo.utils import counters
from training_runs import Listener, losses, make_batch, make_model, run_config, weights

from hnet_lm.errors import ConfigError
from hnet_lm.training.compilation import compile_blocks
from hnet_lm.training.loop import train

LENGTHS = ([25, 15], [10, 23, 7], [1, 30], [40], [9, 8, 7, 6], [3, 4])


def compiled_beside_plain() -> dict[str, Any]:
    """Of batches of other and other lengths: how far gradients are apart, and the graphs that there are by then."""
    plain, model = make_model(2), make_model(2)
    compile_blocks(model, "aot_eager")
    differences, graphs = [], []
    for lengths in LENGTHS:
        batch = make_batch(lengths)
        for each in (plain, model):
            each.zero_grad()
            each(batch.input_ids, batch.sequences).logits.square().mean().backward()
        pairs = zip(plain.parameters(), model.parameters(), strict=True)
        differences += [(a.grad - b.grad).abs().max().item() for a, b in pairs if a.grad is not None]
        graphs.append(counters["stats"]["unique_graphs"])
    return {
        "difference": max(differences),
        "graphs": graphs,
        "same_names": [*plain.state_dict()] == [*model.state_dict()],
    }


def without_compiler() -> str:
    with torch._inductor.config.patch({"cpp.cxx": ("/no/such/compiler",), "force_disable_caches": True}):
        try:
            compile_blocks(make_model())
        except ConfigError as error:
            return str(error)
    return "no error"


def stopped_run(folder: Path) -> dict[str, Any]:
    """A run at once and one that is stopped, forgets what it compiled, and goes on."""
    runs = {name: run_config(folder, name=name, run={"num_steps": 4, "compile": True}) for name in ("whole", "stopped")}
    train(runs["whole"])
    train(runs["stopped"], Listener(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None))
    torch.compiler.reset()
    train(runs["stopped"])
    plain = run_config(folder, name="plain", run={"num_steps": 4})
    train(plain)
    whole, stopped = (weights(folder / name) for name in runs)
    apart = [
        abs(a - b) for a, b in zip(losses(folder / "whole").values(), losses(folder / "plain").values(), strict=True)
    ]
    return {"same_weights": all(whole[name].equal(stopped[name]) for name in whole), "losses_apart": max(apart)}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    refused = without_compiler()
    torch.compiler.reset()
    results = {"refused": refused, "graphs": compiled_beside_plain(), "run": stopped_run(folder)}
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
