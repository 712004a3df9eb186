"""The models that are measured, random but for their routers, which cut English about every five bytes."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from hnet_lm.attention_config import AttentionConfig
from hnet_lm.config import HNetConfig
from hnet_lm.data import Batch, DataConfig, SourceConfig, documents, open_loader
from hnet_lm.model import HNet, HNetLM
from hnet_lm.model.dynamic_chunking import RoutingModule
from hnet_lm.sequences import Sequences
from hnet_lm.stage_config import StageConfig
from speed.settings import BYTES_PER_CHUNK, MambaSettings

SOURCES = (SourceConfig("sample:english"), SourceConfig("sample:english", split="validation"))
BISECTIONS = 30
LARGEST_BETA = 100.0
NEAR = 0.001
TOLERANCE = 0.02  # short texts have few chunks, and one more or less is already so much


def make_model(config: HNetConfig, ids: Tensor, seqs: Sequences) -> HNetLM:
    """On the device of the ids. If it chunks, its router cuts these sequences every `BYTES_PER_CHUNK` bytes."""
    torch.manual_seed(0)
    model = HNetLM(config).to(ids.device)
    if config.num_stages:
        calibrate(model, ids, seqs, BYTES_PER_CHUNK)
    return model


@torch.no_grad()
def calibrate(model: HNetLM, ids: Tensor, seqs: Sequences, bytes_per_chunk: float) -> float:
    """Set the outermost router so that it cuts these sequences as often as that; returns the bytes a chunk reached.

    With x_hat the encoder's output and C the mean of x_hat_{t-1} x_hat_t^T, W_k = I + beta C makes those neighbours
    alike that often stand beside each other: the larger beta, the fewer cuts. RuntimeError if no beta will do.
    """
    network = model.network
    assert isinstance(network, HNet)
    assert isinstance(network.routing, RoutingModule)
    x_hat, _ = network.encoder(model.embedding(ids), seqs, None)
    neighbours = x_hat[:-1].T @ x_hat[1:]
    neighbours /= torch.linalg.matrix_norm(neighbours, 2)
    identity = torch.eye(len(neighbours), device=ids.device)
    low, high = 0.0, LARGEST_BETA
    reached = 0.0
    for _ in range(BISECTIONS):
        beta = (low + high) / 2
        network.routing.k_proj.weight.copy_(identity + beta * neighbours)
        routing, _ = network.routing(x_hat, seqs, None)
        reached = len(ids) / int(routing.is_boundary.sum())
        if abs(reached / bytes_per_chunk - 1) < NEAR:
            break
        low, high = (beta, high) if reached < bytes_per_chunk else (low, beta)
    if abs(reached / bytes_per_chunk - 1) > TOLERANCE:
        raise RuntimeError(f"the router cuts every {reached:.2f} bytes; it cannot be set to {bytes_per_chunk}")
    return reached


def windowed(config: HNetConfig, window: int | None = None) -> HNetConfig:
    """The same model, all of whose attention has this window, or that of the outer stage."""
    window = config.stages[0].attention.window_size if window is None else window
    stages = [
        dataclasses.replace(stage, attention=dataclasses.replace(stage.attention, window_size=window))
        for stage in config.stages
    ]
    return dataclasses.replace(config, stages=tuple(stages))


def mamba_config(reference: HNetConfig, sizes: MambaSettings) -> HNetConfig:
    """Mamba-2 blocks alone, with the Mamba-2 sizes of the reference."""
    stage = StageConfig(sizes.width, 0, AttentionConfig(num_heads=1), main_network=f"m{sizes.num_layers}")
    return HNetConfig((stage,), reference.mamba2, reference.vocab_size)


def english_batch(num_sequences: int, length: int, vocab_size: int = 256, tokenizer: Path | None = None) -> Batch:
    """The beginning of the bundled English; with a tokenizer the same bytes as tokens."""
    config = DataConfig(
        SOURCES[:1],
        tokens_per_batch=num_sequences * length,
        max_length=length,
        shuffle_bytes=0,
        tokenizer=str(tokenizer or ""),
    )
    loader = open_loader(config, vocab_size=vocab_size)
    batch = next(loader)
    loader.close()
    return batch


def english(num_bytes: int, device: torch.device) -> Tensor:
    """So many bytes of the bundled English as ids, over and over where that is longer than all of it."""
    text = b"".join(document.data for document in documents(DataConfig(SOURCES)))
    text = (text * (num_bytes // len(text) + 1))[:num_bytes]
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device, torch.int64)
