"""Small runs for these tests: models that train in milliseconds an update, a corpus, and what is read from a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.data import Batch
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences
from hnet_lm.tables import from_table
from hnet_lm.training.config import RunConfig
from hnet_lm.training.metrics import Record, read_metrics

LAYOUTS: dict[int, list[Any]] = {
    0: ["m1t1"],
    1: ["m1", ["T1"], "m1"],
    2: ["m1", ["t1m1", ["T1"], "T1"], "m1"],
}
WIDTHS = {0: [32], 1: [32, 48], 2: [32, 32, 48]}
TARGET_RATIOS = {0: [], 1: [3.0], 2: [3.0, 2.0]}


def architecture(num_stages: int = 1) -> HNetConfig:
    """A model that chunks so many times."""
    widths = WIDTHS[num_stages]
    return HNetConfig.from_dict(
        {
            "arch_layout": LAYOUTS[num_stages],
            "d_model": widths,
            "d_intermediate": [64] * len(widths),
            "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
            "attn_cfg": {
                "num_heads": [2] * len(widths),
                "rotary_emb_dim": [8] * len(widths),
                "window_size": [15] * (len(widths) - 1) + [-1],
            },
        }
    )


def make_model(num_stages: int = 1, seed: int = 0) -> HNetLM:
    torch.manual_seed(seed)
    return HNetLM(architecture(num_stages))


def write_corpus(path: Path, num_documents: int = 40, seed: int = 0) -> Path:
    """JSONL of made-up words in documents of very different lengths."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghij"), rng.integers(2, 8))) for _ in range(30)]
    texts = (" ".join(rng.choice(words, rng.integers(1, 30))) for _ in range(num_documents))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def run_table(folder: Path, num_stages: int = 1, name: str = "run", **tables: dict[str, Any]) -> dict[str, Any]:
    """A run as nested tables; `tables` are merged into it. The model and the corpus are written into the folder."""
    corpus, model = folder / "corpus.jsonl", folder / f"model_{num_stages}.json"
    if not corpus.exists():
        write_corpus(corpus)
    model.write_text(json.dumps(architecture(num_stages).to_dict()))
    table: dict[str, Any] = {
        "run": {"directory": str(folder / name), "num_steps": 6, "precision": "float32"},
        "model": {"config": str(model)},
        "data": {
            "sources": [{"path": str(corpus)}],
            "tokens_per_batch": 96,
            "max_length": 48,
            "shuffle_bytes": 2000,
        },
        "loss": {"target_ratios": TARGET_RATIOS[num_stages]},
        "optimizer": {"lr": 2e-3},
        "schedule": {"warmup": 0.2},
        "checkpoints": {"every": 2, "keep": 2, "before_decay": False},
        "logging": {"every": 1, "report": False},
    }
    for key, values in tables.items():
        table[key] = {**table.get(key, {}), **values}
    return table


def run_config(folder: Path, num_stages: int = 1, name: str = "run", **tables: dict[str, Any]) -> RunConfig:
    return from_table(RunConfig, run_table(folder, num_stages, name, **tables))


def to_toml(table: dict[str, Any]) -> str:
    """A run file."""

    def literal(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {literal(child)}" for key, child in value.items()) + "}"
        return f"[{', '.join(map(literal, value))}]" if isinstance(value, list) else json.dumps(value)

    sections = {
        name: "\n".join(f"{key} = {literal(value)}" for key, value in rows.items()) for name, rows in table.items()
    }
    return "".join(f"[{name}]\n{rows}\n" for name, rows in sections.items())


class Listener:
    """A reporter that keeps what it is told, and calls a function after each update."""

    def __init__(self, after_update: Callable[[int], None] = lambda step: None):
        self.messages: list[str] = []
        self.closed = False
        self.has_started = False
        self._after_update = after_update

    def start(self, step: int, num_steps: int) -> None:
        self.has_started = True
        self.started_at = step

    def expect(self, num_steps: int) -> None:
        self.expected = num_steps

    def advance(self, step: int, record: Record | None) -> None:
        self._after_update(step)

    def say(self, message: str, style: str = "") -> None:
        self.messages.append(message)

    def close(self) -> None:
        self.closed = True


def updates(directory: str | Path) -> list[Record]:
    """The records of updates, without validations and warnings."""
    return [record for record in read_metrics(Path(directory) / "metrics.jsonl") if "loss" in record]


def losses(directory: str | Path) -> dict[int, float]:
    """The loss of every step; fails where a step has two records."""
    records = updates(directory)
    found = {record["step"]: record["loss"] for record in records}
    assert len(found) == len(records), "a step has two records"
    return found


def weights(directory: str | Path) -> dict[str, Tensor]:
    return checkpoint.read_weights(Path(directory))


def make_batch(lengths: list[int], seed: int = 0) -> Batch:
    """Random letters in sequences of these lengths, with a target everywhere."""
    ids = torch.randint(97, 107, (sum(lengths) + 1,), generator=torch.Generator().manual_seed(seed))
    origin = torch.zeros(len(lengths), 5, dtype=torch.int64)
    return Batch(ids[:-1], ids[1:], Sequences.from_lengths(lengths), origin, sum(lengths))


def concatenate(batches: list[Batch]) -> Batch:
    """All sequences of the batches, packed into one."""
    lengths = [length for batch in batches for length in batch.sequences.host_lengths]
    return Batch(
        torch.cat([batch.input_ids for batch in batches]),
        torch.cat([batch.targets for batch in batches]),
        Sequences.from_lengths(lengths),
        torch.cat([batch.origin for batch in batches]),
        sum(batch.num_bytes for batch in batches),
    )
