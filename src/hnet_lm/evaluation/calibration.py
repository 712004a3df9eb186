"""Finds thresholds with which a trained model makes chunks of a given length, on held-out text.

A router cuts where p > threshold, 1/2 in training. The ratio loss is only a soft constraint, so chunks may be shorter
or longer than the target; another threshold corrects that without training. From the outermost stage inwards, it is
set between the two probabilities in the text that leave the right fraction of positions above it. The decision still
depends on p alone, so it stays causal; a rule that ranks the positions of a window would not.

If p depends on earlier cuts (the `policy` chunker), the text is cut again and the threshold moved until the fraction is
right, for a few rounds at most.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from hnet_lm.checks import require_number
from hnet_lm.chunker_config import LearnedChunkerConfig
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError, DataError
from hnet_lm.inspect import chunks
from hnet_lm.model import HNetLM

MAX_ROUNDS = 8
TOLERANCE = 0.005
"""Relative error of the fraction of boundaries at which the search for a threshold ends."""


@dataclass(frozen=True)
class StageCalibration:
    """The change to one stage; lengths are positions per chunk, on the text."""

    threshold_before: float
    length_before: float
    threshold: float
    length: float


def calibrated(
    model: HNetLM, texts: Sequence[bytes], target_ratios: Sequence[float]
) -> tuple[HNetLM, list[StageCalibration]]:
    """A model that shares all weights with the given one, with thresholds for these positions per chunk of each stage.

    Raises ConfigError for a stage without a threshold, and DataError for a text that is too short.
    """
    config = model.config
    if len(target_ratios) != config.num_stages:
        raise ConfigError(
            f"the model chunks {config.num_stages} times, but {len(target_ratios)} target ratios are given"
        )
    found = []
    for stage, target in enumerate(target_ratios):
        require_number("target ratio", target, above=1)
        before, length_before = _thresholded(config, stage).threshold, _length(_decisions(model, texts, stage))
        model, length = _with_length(model, texts, stage, target)
        found.append(StageCalibration(before, length_before, _thresholded(model.config, stage).threshold, length))
    return model, found


def with_threshold(model: HNetLM, stage: int, threshold: float) -> HNetLM:
    """The same weights with another threshold in one stage."""
    chunkers = list(model.config.all_chunkers)
    chunkers[stage] = dataclasses.replace(_thresholded(model.config, stage), threshold=threshold)
    with torch.device("meta"):
        other = HNetLM(dataclasses.replace(model.config, chunkers=tuple(chunkers)))
    other.load_state_dict(model.state_dict(), assign=True)
    return other.train(model.training)


def _thresholded(config: HNetConfig, stage: int) -> LearnedChunkerConfig:
    chunker = config.chunker(stage)
    if not isinstance(chunker, LearnedChunkerConfig):
        raise ConfigError(f"stage {stage} is cut by {chunker.name!r}, which has no threshold to calibrate")
    if getattr(chunker, "decide", "threshold") != "threshold":
        raise ConfigError(f"stage {stage} draws its boundaries; give its chunker decide = 'threshold' first")
    return chunker


Decisions = tuple[np.ndarray, np.ndarray]
"""Probability and decision of each position of a stage."""


def _decisions(model: HNetLM, texts: Sequence[bytes], stage: int) -> Decisions:
    stages = [chunks(model, text).stages[stage] for text in texts if text]
    if not stages:
        raise DataError("there is no text to calibrate on")
    prob = np.concatenate([found.boundary_prob for found in stages])
    return prob, np.concatenate([found.is_boundary for found in stages])


def _length(decisions: Decisions) -> float:
    return len(decisions[1]) / max(1, int(decisions[1].sum()))


def _with_length(model: HNetLM, texts: Sequence[bytes], stage: int, target: float) -> tuple[HNetLM, float]:
    """The model whose chunks are closest to the target, and their length."""
    decisions = _decisions(model, texts, stage)
    best = model, _length(decisions)
    for _ in range(MAX_ROUNDS):
        if abs(best[1] / target - 1) <= TOLERANCE:
            break
        threshold = between(decisions[0], len(decisions[0]) / target)
        if threshold == _thresholded(model.config, stage).threshold:
            break
        model = with_threshold(model, stage, threshold)
        decisions = _decisions(model, texts, stage)
        length = _length(decisions)
        if abs(length / target - 1) < abs(best[1] / target - 1):
            best = model, length
    return best


def between(prob: np.ndarray, num_above: float) -> float:
    """A threshold with about this many values above it: half-way between two different values, in float32.

    Raises DataError if all values are the same.
    """
    values, counts = np.unique(prob.astype(np.float32), return_counts=True)
    above = len(prob) - np.cumsum(counts)  # how many are above each value
    inside = [i for i, (low, high) in enumerate(pairwise(values)) if 0 < _middle(low, high) < 1]
    if not inside:
        raise DataError("no threshold divides the text: all its boundary probabilities are the same")
    nearest = min(inside, key=lambda i: abs(above[i] - num_above))
    return _middle(values[nearest], values[nearest + 1])


def _middle(low: np.float32, high: np.float32) -> float:
    """At least `low` and below `high`, so that it separates them even if they are neighbouring floats."""
    middle = np.float32((float(low) + float(high)) / 2)
    return float(low if middle >= high else middle)
