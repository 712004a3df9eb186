"""The engineering targets, and whether what was measured meets them. Ratios, not absolute times."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """`measured` finds the figure in summaries and parts; a KeyError there means that its part was not measured."""

    text: str
    measured: Callable[[Mapping[str, Any], Mapping[str, Any]], float]
    limit: float
    at_least: bool
    form: str = "{:.2f}"

    def row(self, summary: Mapping[str, Any], parts: Mapping[str, Any]) -> tuple[str, str, str]:
        """Target, measured, met or missed."""
        sign = "≥" if self.at_least else "≤"
        text = f"{self.text} {sign} {self.form.format(self.limit)}"
        try:
            value = self.measured(summary, parts)
        except KeyError:
            return text, "not measured", ""
        is_met = value >= self.limit if self.at_least else value <= self.limit
        return text, self.form.format(value), "met" if is_met else "missed"


PERCENT, TIMES, SECONDS = "{:.1%}", "{:.2f} times", "{:.2f} s"
TARGETS = (
    Target(
        "training step of the bench model, share of the matrix product peak (aim: 60 %)",
        lambda summary, _: summary["training"]["matched"]["bench"]["share_of_peak"],
        0.40,
        at_least=True,
        form=PERCENT,
    ),
    Target(
        "training beside the faster transformers' Mamba2 of equal layers",
        lambda summary, _: summary["training"]["times_transformers"],
        5,
        at_least=True,
        form=TIMES,
    ),
    Target(
        "wall time a FLOP of the bench model, relative to the matched byte Transformer",
        lambda summary, _: summary["training"]["seconds_per_flop"]["bench"],
        1.15,
        at_least=False,
        form=TIMES,
    ),
    Target(
        "decoding one stream beside transformers' Mamba2 of equal layers",
        lambda summary, _: summary["decoding"]["times_transformers"]["1"],
        10,
        at_least=True,
        form=TIMES,
    ),
    Target(
        "one stream of the bench model, share of the bandwidth bound",
        lambda summary, _: summary["decoding"]["streams"]["bench"]["1"]["share_of_bound"],
        0.40,
        at_least=True,
        form=PERCENT,
    ),
    Target(
        "64 streams of the bench model, throughput over that of one stream",
        lambda summary, _: summary["decoding"]["times_one_stream"]["64"],
        20,
        at_least=True,
        form=TIMES,
    ),
    Target(
        "state of a stream but for its global attention, largest over smallest of all contexts",
        lambda summary, _: _spread(summary["decoding"]["constant_state_bytes"]),
        1,
        at_least=False,
        form=TIMES,
    ),
    Target(
        "cost a byte of training, attention in windows that are full, dearest over cheapest length",
        lambda summary, _: summary["length"]["flatness"],
        1.10,
        at_least=False,
        form=TIMES,
    ),
    Target(
        "peak memory of training, windowed, largest distance from a line in length",
        lambda summary, _: summary["length"]["memory_fit"]["largest_error"],
        0.10,
        at_least=False,
        form=PERCENT,
    ),
    Target(
        "first training step of the demonstration, from the command",
        lambda _, parts: parts["startup"]["first record of the demo"]["seconds"],
        20,
        at_least=False,
        form=SECONDS,
    ),
    Target(
        "hnet-lm --help",
        lambda _, parts: parts["startup"]["hnet-lm --help"]["seconds"],
        0.5,
        at_least=False,
        form=SECONDS,
    ),
)


def _spread(values: list[int]) -> float:
    return max(values) / min(values)
