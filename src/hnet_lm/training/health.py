"""Is the router well? Warnings in words when chunking collapses, and what to try."""

from collections.abc import Sequence

from hnet_lm.training.chunk_statistics import ChunkStatistics

PATIENCE = 20
REPEAT = 500


class RouterHealth:
    """Watches the chunk statistics of every stage; a warning comes when something has been wrong for a while."""

    def __init__(self, target_ratios: Sequence[float | None]):
        """One target a stage that chunks; None for a stage that a rule cuts, with which nothing can be wrong."""
        self.target_ratios = target_ratios
        self._wrong_for = [0] * len(target_ratios)

    def check(self, chunks: Sequence[ChunkStatistics]) -> list[str]:
        """Warnings for this record, empty while all is well; the same trouble is repeated only now and then."""
        warnings = []
        for stage, (statistics, target) in enumerate(zip(chunks, self.target_ratios, strict=True)):
            if target is None:
                continue
            trouble = diagnose(statistics, target)
            self._wrong_for[stage] = self._wrong_for[stage] + 1 if trouble else 0
            if trouble and (self._wrong_for[stage] - PATIENCE) % REPEAT == 0:
                warnings.append(f"stage {stage}: {trouble}")
        return warnings


def diagnose(statistics: ChunkStatistics, target_ratio: float) -> str | None:
    """What is wrong with a stage's chunking, and what to try; None if nothing is."""
    length = statistics.mean_chunk_length
    if statistics.boundary_fraction > 0.95:
        return (
            f"nearly every position is a boundary (chunks of {length:.2f} positions, target {target_ratio:g}): "
            "the main network sees the sequence uncompressed. Try a larger loss.ratio_loss_weight, or a smaller "
            "learning rate"
        )
    if length > 20 * target_ratio:
        return (
            f"almost no boundaries (chunks of {length:.0f} positions, target {target_ratio:g}): the main network sees "
            "next to nothing. Try a larger loss.ratio_loss_weight, a smaller optimizer.lr_multipliers entry of this "
            "stage, or a longer warm-up"
        )
    if statistics.chunk_length_sd < 0.1 and length > 1.5:
        return (
            f"all chunks have the same length ({length:.1f}): the router follows a fixed stride and not the data. "
            "Try a smaller loss.ratio_loss_weight, or Mamba-2 blocks in the encoder"
        )
    if not target_ratio / 2.5 <= length <= target_ratio * 2.5:
        return (
            f"chunks of {length:.1f} positions are far from the target of {target_ratio:g}. "
            "Try a larger loss.ratio_loss_weight, or a target nearer to what the data wants"
        )
    return None
