"""One whole training step of a model of this package: the training loop's own update and optimizer, at rate 0.

At rate 0 the weights stay where they are, so every repetition cuts the same chunks and does the same work.
"""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

from hnet_lm.data import Batch
from hnet_lm.losses import RatioLoss
from hnet_lm.model import HNetLM
from hnet_lm.model.flops import FORWARD_AND_BACKWARD, total_flops_per_byte
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.machine import choose_precision
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer, set_learning_rate
from hnet_lm.training.step import StepFigures, StepResult, update
from speed.settings import BYTES_PER_CHUNK

RATIO_LOSS_WEIGHT = 0.03


class UpdateStep:
    """Calling it runs an update; the properties say what the last one did."""

    def __init__(self, model: HNetLM, batch: Batch):
        keep_freed_memory()
        self.model = model
        self.batch = batch
        self._ranks = Ranks(rank=0, num_ranks=1, device=model.device)
        self._precision = choose_precision("auto", model.device)
        target_ratios = [BYTES_PER_CHUNK] * model.config.num_stages
        self._terms = [RatioLoss(tuple(target_ratios), False, weight=RATIO_LOSS_WEIGHT)]
        self._config = OptimizerConfig()
        self._optimizer = build_optimizer(model, self._config, target_ratios)
        set_learning_rate(self._optimizer, 0.0)
        self._result: StepResult | None = None

    def __call__(self) -> None:
        self._result = update(
            self.model,
            self._optimizer,
            [self.batch],
            self._terms,
            self._config.max_grad_norm,
            self._precision,
            self._ranks,
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of text in the batch."""
        return self.batch.num_bytes

    @property
    def bytes_per_chunk(self) -> Sequence[float]:
        """Of every stage that chunks, in bytes of the input."""
        assert self._result is not None
        figures = StepFigures.gather(self._result, self._ranks)
        return list(accumulate((chunks.mean_chunk_length for chunks in figures.chunks), mul))

    @property
    def flops_per_byte(self) -> float:
        """Model FLOPs of a step, forward and backward, for a byte of text."""
        bytes_per_token = self.num_bytes / len(self.batch.input_ids) if self.model.config.reads_tokens else 1.0
        length = self.num_bytes // self.batch.sequences.num_sequences
        forward = total_flops_per_byte(self.model.config, length, self.bytes_per_chunk, bytes_per_token)
        return FORWARD_AND_BACKWARD * forward
