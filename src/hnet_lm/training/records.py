"""The record of an update: what `metrics.jsonl` holds. docs/metrics.md has the keys with their units."""

import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from time import monotonic

import torch

from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import forward_flops_per_byte
from hnet_lm.training.chunk_statistics import ChunkStatistics
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.gpus import data_sheet_peak
from hnet_lm.training.machine import matmul_peak
from hnet_lm.training.metrics import Record
from hnet_lm.training.step import StepFigures, StepResult

BACKWARD = 2  # FLOPs of a backward pass for one of the forward pass


class Recorder:
    """Makes records, and measures speed between them; the time spent on anything but training does not count."""

    def __init__(
        self, config: HNetConfig, sequence_length: int, precision: torch.dtype, ranks: Ranks, *, tf32: bool = False
    ):
        self.config = config
        self.sequence_length = sequence_length
        self.ranks = ranks
        self._peak = matmul_peak(ranks.device, precision) * ranks.num_ranks
        data_sheet = data_sheet_peak(ranks.device, precision, tf32)
        self._data_sheet = None if data_sheet is None else data_sheet * ranks.num_ranks
        self._bytes = 0
        self._since = monotonic()

    def count(self, num_bytes: int) -> None:
        """Bytes of text that all ranks have trained on since the last record."""
        self._bytes += num_bytes

    def record(
        self, result: StepResult, step: int, bytes_seen: int, rate: float, bag_size: int = 1
    ) -> tuple[Record, list[ChunkStatistics]]:
        """The record of an update; all ranks call this together. Loss and chunks are those of this update.

        One over bags has neither `loss` nor what follows from it or from FLOPs per byte: its cross entropy is not that
        of the next byte.
        """
        seen = StepFigures.gather(result, self.ranks)
        now = monotonic()
        speed = self._bytes / max(now - self._since, 1e-9)
        self._bytes, self._since = 0, now
        bytes_per_chunk = list(accumulate((chunks.mean_chunk_length for chunks in seen.chunks), operator.mul))
        record: Record = {
            "step": step,
            "bytes_seen": bytes_seen,
            **self._loss(seen, bag_size),
            "lr": rate,
            "grad_norm": result.grad_norm if math.isfinite(result.grad_norm) else None,
            "skipped": not result.applied,
            "bytes_per_second": speed,
            **({} if bag_size > 1 else self._utilization(bytes_per_chunk, seen.targets_per_byte, speed)),
        }
        record |= seen.terms
        for stage, (chunks, ratio_loss) in enumerate(zip(seen.chunks, seen.ratio_losses, strict=True)):
            record |= {
                f"stage{stage}/ratio_loss": ratio_loss,
                f"stage{stage}/bytes_per_chunk": bytes_per_chunk[stage],
                f"stage{stage}/chunk_length_mean": chunks.mean_chunk_length,
                f"stage{stage}/mean_boundary_prob": chunks.mean_boundary_prob,
                f"stage{stage}/chunk_length_sd": chunks.chunk_length_sd,
            }
        return record, seen.chunks

    def _loss(self, seen: StepFigures, bag_size: int) -> Record:
        if bag_size > 1:
            return {"superposition/loss": seen.cross_entropy, "superposition/bag_size": bag_size}
        return {"loss": seen.cross_entropy, "bits_per_byte": seen.bits_per_byte}

    def _utilization(self, bytes_per_chunk: list[float], positions_per_byte: float, speed: float) -> Record:
        flops = (1 + BACKWARD) * self._forward_flops(bytes_per_chunk, positions_per_byte) * speed
        data_sheet = {} if self._data_sheet is None else {"mfu": flops / self._data_sheet}
        return {"matmul_utilization": flops / self._peak, **data_sheet}

    def _forward_flops(self, bytes_per_chunk: list[float], positions_per_byte: float) -> float:
        """For a byte of text; a model of tokens has fewer positions than bytes."""
        if not self.config.reads_tokens:
            return sum(forward_flops_per_byte(self.config, bytes_per_chunk, self.sequence_length).values())
        num_tokens = max(1, round(self.sequence_length * positions_per_byte))
        return positions_per_byte * sum(forward_flops_per_byte(self.config, bytes_per_chunk, num_tokens).values())

    @contextmanager
    def not_training(self) -> Iterator[None]:
        """Time within the block counts neither for speed nor utilisation."""
        start = monotonic()
        yield
        self._since += monotonic() - start
