"""Timing several things beside each other: each is done once to warm up, then all take turns, round after round.

A machine that slows down for a while then slows all of them, and ratios of medians stay right.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

import torch


class Timing(TypedDict):
    """Seconds of one call: the median, and every one measured."""

    seconds: float
    all_seconds: list[float]


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, Timing]:
    """The time of each call."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(seconds_of(call, device))
    return {name: timing_of(values) for name, values in seconds.items()}


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def timing_of(seconds: Iterable[float]) -> Timing:
    seconds = list(seconds)
    return {"seconds": statistics.median(seconds), "all_seconds": seconds}


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
