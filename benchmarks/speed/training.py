"""Whole training steps side by side: the bench model, Transformers that cost as much a byte, and Mamba-2 alone beside
transformers' Mamba2 with equal layers.

All read the same bytes of English. The byte and BPE Transformers are matched in FLOPs a byte to the bench model at the
bytes a chunk it really makes. The two Mambas have a smaller batch (`TrainingSettings.peer_sequences`).
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hnet_lm.baselines import FAMILIES, match
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, documents, open_byte_pairs
from hnet_lm.data.byte_pairs import train_byte_pairs
from hnet_lm.model import HNetLM
from hnet_lm.model.flops import total_flops_per_byte
from speed.bench_model import SOURCES, english_batch, make_model, mamba_config
from speed.peer import PeerStep, make_peer
from speed.settings import Settings, TrainingSettings
from speed.timing import Timing, in_turn
from speed.update_step import UpdateStep


def measure(settings: Settings, device: torch.device) -> dict[str, Any]:
    return {"matched": _matched(settings, device), "mamba": _mamba(settings, device)}


def _matched(settings: Settings, device: torch.device) -> dict[str, Any]:
    """The bench model and the Transformers matched to it."""
    sizes = settings.training
    batch = english_batch(sizes.num_sequences, sizes.length).to(device)
    config = HNetConfig.load(settings.model)
    bench = UpdateStep(make_model(config, batch.input_ids, batch.sequences), batch)
    bench()
    target = total_flops_per_byte(config, sizes.length, bench.bytes_per_chunk)
    steps = {"bench": bench}
    for family in ("llamabyte", "llamabyte-windowed"):
        found = match(FAMILIES[family], config, target, sizes.length, tolerance=sizes.tolerance)
        steps[family] = UpdateStep(HNetLM(found.config).to(device), batch)
    steps["bpe"] = _bpe_step(config, target, sizes, device)
    timings = in_turn(steps, settings.rounds, device)
    return {name: {**describe(step), **timings[name]} for name, step in steps.items()}


def _bpe_step(reference: HNetConfig, target: float, sizes: TrainingSettings, device: torch.device) -> UpdateStep:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        train_byte_pairs((document.data for document in documents(DataConfig(SOURCES[:1]))), sizes.num_tokens, path)
        vocab_size = open_byte_pairs(str(path)).vocab_size
        batch = english_batch(sizes.num_sequences, sizes.length, vocab_size, path)
    found = match(
        FAMILIES["bpe"],
        reference,
        target,
        sizes.length,
        bytes_per_token=batch.num_bytes / len(batch.input_ids),
        vocab_size=vocab_size,
        tolerance=sizes.tolerance,
    )
    return UpdateStep(HNetLM(found.config).to(device), batch.to(device))


def _mamba(settings: Settings, device: torch.device) -> dict[str, Any]:
    """Our Mamba-2 blocks and those of transformers, which are the same model: same weights' shapes, same FLOPs."""
    sizes = settings.training
    batch = english_batch(sizes.peer_sequences, sizes.length).to(device)
    config = mamba_config(HNetConfig.load(settings.model), settings.mamba)
    ours = UpdateStep(make_model(config, batch.input_ids, batch.sequences), batch)
    ours()
    rows = batch.input_ids.unflatten(0, (sizes.peer_sequences, sizes.length))
    steps: dict[str, Callable[[], None]] = {"ours": ours}
    for chunk_size in settings.mamba.peer_chunk_sizes:
        steps[f"transformers, chunks of {chunk_size}"] = PeerStep(make_peer(config, chunk_size, device), rows)
    timings: dict[str, Timing] = in_turn(steps, settings.rounds, device)
    return {name: {**describe(ours), **timing} for name, timing in timings.items()}


def describe(step: UpdateStep) -> dict[str, Any]:
    """What was trained on what."""
    config = step.model.config
    return {
        "layout": config.to_dict()["arch_layout"],
        "widths": [stage.d_model for stage in config.stages],
        "parameters": sum(parameter.numel() for parameter in step.model.parameters()),
        "bytes": step.num_bytes,
        "positions": len(step.batch.input_ids),
        "bytes_per_chunk": step.bytes_per_chunk,
        "flops_per_byte": step.flops_per_byte,
    }
