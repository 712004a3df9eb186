"""The tables and the figure of the comparison, from the results of its cells."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from experiments.common import Estimate, markdown
from experiments.paper.plan import NUM_STEPS, TUNING_STEPS
from matplotlib.figure import Figure

from hnet_lm.evaluation.curves import Curve, Efficiency, data_efficiency
from hnet_lm.figures import write_figure

Facts = Mapping[str, Mapping[str, Any]]
"""By name of the cell: its keys, and under `result` what was measured."""
Value = Callable[[Mapping[str, Any]], float | None]
BASELINE = "bpe"
"""With which data efficiency is compared."""

COLUMNS: Mapping[str, Value] = {
    "test": lambda result: result["test"]["bits_per_byte"],
    "out of domain": lambda result: result["out_of_domain"]["bits_per_byte"],
    "misspelt": lambda result: result.get("misspelt", {}).get("perturbed_bits_per_clean_byte"),
    "MB read": lambda result: result["bytes_read"] / 1e6,
    "parameters, M": lambda result: result["test"]["parameters"] / 1e6,
    "MFLOPs per byte": lambda result: result["test"]["forward_flops_per_byte"] / 1e6,
    "bytes per chunk": lambda result: next(iter(result["test"]["bytes_per_chunk"][-1:]), None),
    "B": lambda result: enrichment(result, "value"),
    "B by chance": lambda result: enrichment(result, "null_mean"),
}


def enrichment(result: Mapping[str, Any], key: str) -> float | None:
    return result["boundaries"][0]["enrichment"][key] if "boundaries" in result else None


def page(facts: Facts) -> str:
    parts = [models_table(facts), efficiency_table(facts), rates_table(facts), vocabulary_table(facts)]
    return "\n".join(part for part in parts if part)


def models(facts: Facts) -> dict[str, list[Mapping[str, Any]]]:
    """Results of full length by model, over seeds; the best model first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for fact in facts.values():
        if fact["num_steps"] == NUM_STEPS:
            found.setdefault(fact["variant"], []).append(fact["result"])
    return dict(sorted(found.items(), key=lambda item: mean(COLUMNS["test"](result) or 0.0 for result in item[1])))


def models_table(facts: Facts) -> str:
    rows = []
    for variant, results in models(facts).items():
        low, high = results[0]["test"]["interval_95"]
        cells = [variant, str(len(results)), *(over_seeds(results, value) for value in COLUMNS.values())]
        rows.append([*cells[:3], f"{low:.3f}-{high:.3f}", *cells[3:]])
    first, *others = COLUMNS
    return markdown(("model", "seeds", first, "95 %, documents", *others), rows)


def over_seeds(results: Sequence[Mapping[str, Any]], value: Value) -> str:
    values = [found for result in results if (found := value(result)) is not None]
    return str(Estimate.of(values)) if values else ""


def efficiency_table(facts: Facts) -> str:
    """How many times less data than the Transformer over BPE tokens each model needs, as a mean over seeds."""
    curves = {variant: curves_of(variant, results) for variant, results in models(facts).items()}
    if not curves.get(BASELINE):
        return ""
    rows = []
    for variant in curves:
        pairs = list(zip(curves[variant], curves[BASELINE], strict=False))
        found = [[data_efficiency(*pair, before_decay=early) for pair in pairs] for early in (True, False)]
        rows.append([variant, *(mean_factor(factors) for factors in found)])
    return markdown(("model", f"times less data than {BASELINE}, before decay", "after decay"), rows)


def curves_of(variant: str, results: Sequence[Mapping[str, Any]]) -> list[Curve]:
    found = [result["curve"] for result in results if "curve" in result]
    return [
        Curve(variant, np.array(one["bytes_seen"]), np.array(one["bits_per_byte"]), one["bytes_before_decay"])
        for one in found
    ]


def mean_factor(found: Iterable[Efficiency | None]) -> str:
    factors = [efficiency.factor for efficiency in found if efficiency]
    return f"{math.exp(mean(map(math.log, factors))):.2f}" if factors else ""


def rates_table(facts: Facts) -> str:
    """Bits per byte of validation, by peak rate."""
    found: dict[str, dict[float, float]] = {}
    for fact in tuned(facts):
        if fact["num_tokens"] in (0, 4096):
            found.setdefault(fact["variant"], {})[fact["lr"]] = fact["result"]["validation"]
    rates = sorted({rate for row in found.values() for rate in row})
    rows = [[name, *(f"{row[rate]:.3f}" if rate in row else "" for rate in rates)] for name, row in found.items()]
    return markdown((f"validation after {TUNING_STEPS} steps, by rate", *(f"{rate:g}" for rate in rates)), rows)


def vocabulary_table(facts: Facts) -> str:
    found = [fact for fact in tuned(facts) if fact["num_tokens"]]
    rows = [
        [str(fact["num_tokens"]), f"{fact['lr']:g}", f"{fact['result']['validation']:.3f}"]
        for fact in sorted(found, key=lambda fact: (fact["num_tokens"], fact["lr"]))
    ]
    return markdown(("tokens of BPE", "rate", f"validation after {TUNING_STEPS} steps"), rows)


def tuned(facts: Facts) -> list[Mapping[str, Any]]:
    return [fact for fact in facts.values() if fact["num_steps"] == TUNING_STEPS]


def save_figure(facts: Facts, file: Path) -> None:
    """Held-out bits over bytes of training, and bits of the test text with intervals: over seeds, or over documents
    where there is one seed. Nothing without full runs."""
    by_model = models(facts)
    if not by_model:
        return
    curves = {variant: found for variant, results in by_model.items() if (found := curves_of(variant, results))}
    figure = Figure(figsize=(11 if curves else 5.5, 4.5), layout="constrained")
    *left, right = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
    for height, (variant, results) in enumerate(by_model.items()):
        estimate = Estimate.of([result["test"]["bits_per_byte"] for result in results])
        low, high = results[0]["test"]["interval_95"]
        half = (high - low) / 2 if math.isnan(estimate.half) else estimate.half
        right.errorbar(estimate.mean, -height, xerr=half, fmt="o", color=f"C{height}", capsize=2)
        if found := curves.get(variant):
            level = np.mean([one.bits_per_byte for one in found], axis=0)
            left[0].plot(found[0].bytes_seen / 1e6, level, label=variant, color=f"C{height}")
    for axes in left:
        axes.set_xscale("log")
        axes.set_xlabel("MB of training text")
        axes.set_ylabel("bits per byte, validation")
        axes.legend()
    right.set_yticks([-height for height in range(len(by_model))], list(by_model))
    right.set_xlabel("bits per byte, test, with 95 % intervals")
    for axes in (*left, right):
        axes.grid(alpha=0.3)
    write_figure(figure, file, dpi=110)
