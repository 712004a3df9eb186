"""What the measured seconds mean: speeds, shares of the machine's peaks, ratios. Made anew from the parts each time.

A part that was not measured is missing here as well.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from speed.ops import PASSES

Part = Mapping[str, Any]


def summarize(parts: Mapping[str, Part]) -> dict[str, Any]:
    """One entry for each part that says something beside its figures; shares need the part `peaks`."""
    peaks = summarize_peaks(parts["peaks"]) if "peaks" in parts else {}
    summaries: dict[str, Any] = {"peaks": peaks}
    for name, summarize_part in (("training", _training), ("ops", _ops), ("decoding", _decoding)):
        if name in parts:
            summaries[name] = summarize_part(parts[name], peaks)
    for name, summarize_part in (("length", _length), ("reading", _reading)):
        if name in parts:
            summaries[name] = summarize_part(parts[name])
    return summaries


def summarize_peaks(part: Part) -> dict[str, Any]:
    """The faster type's matrix products are the peak: where bfloat16 is emulated, that is float32."""
    flops = {name: found["flops_per_second"] for name, found in part["matmul"].items()}
    fastest = max(flops, key=lambda name: flops[name])
    return {
        "type": fastest,
        "flops_per_second": flops[fastest],
        "read_bytes_per_second": part["memory_read"]["bytes_per_second"],
    }


def _share(flops_per_second: float, peaks: Part) -> dict[str, float]:
    return {"share_of_peak": flops_per_second / peaks["flops_per_second"]} if peaks else {}


def _speed(row: Part, peaks: Part) -> dict[str, float]:
    flops_per_second = row["flops_per_byte"] * row["bytes"] / row["seconds"]
    return {
        "bytes_per_second": row["bytes"] / row["seconds"],
        "flops_per_second": flops_per_second,
        **_share(flops_per_second, peaks),
    }


def _training(part: Part, peaks: Part) -> dict[str, Any]:
    """`seconds_per_flop` is relative to the byte Transformer with global attention."""
    speeds = {group: {name: _speed(row, peaks) for name, row in part[group].items()} for group in ("matched", "mamba")}
    matched, mamba = speeds["matched"], speeds["mamba"]
    peers = [speed["bytes_per_second"] for name, speed in mamba.items() if name != "ours"]
    return {
        **speeds,
        "seconds_per_flop": {
            name: matched["llamabyte"]["flops_per_second"] / speed["flops_per_second"]
            for name, speed in matched.items()
        },
        "times_transformers": mamba["ours"]["bytes_per_second"] / max(peers),
    }


def _ops(part: Part, peaks: Part) -> list[dict[str, Any]]:
    """In the rows' order, of every pass that ran."""
    return [
        {name: _op_pass(row[name], row["positions"], peaks) for name in PASSES if "seconds" in row.get(name, {})}
        for row in part["rows"]
    ]


def _op_pass(timing: Part, num_positions: int, peaks: Part) -> dict[str, float]:
    share = {} if timing["flops"] is None else _share(timing["flops"] / timing["seconds"], peaks)
    return {"us_per_position": 1e6 * timing["seconds"] / num_positions, **share}


def _decoding(part: Part, peaks: Part) -> dict[str, Any]:
    """`streams`: of every model, bytes a second of all streams together by their number."""
    streams: dict[str, dict[str, Any]] = {}
    for row in part["streams"]:
        seconds_a_step = row["seconds"] / row["steps"]
        found = {"seconds_per_step": seconds_a_step, "bytes_per_second": row["streams"] / seconds_a_step}
        if row["streams"] == 1 and "weight_bytes_read" in row and peaks:
            bound = peaks["read_bytes_per_second"] / row["weight_bytes_read"]
            found |= {"bound_bytes_per_second": bound, "share_of_bound": found["bytes_per_second"] / bound}
        streams.setdefault(row["model"], {})[str(row["streams"])] = found
    single = streams["bench"]["1"]["bytes_per_second"]
    return {
        "streams": streams,
        "times_one_stream": {n: found["bytes_per_second"] / single for n, found in streams["bench"].items()},
        "times_transformers": {
            n: found["bytes_per_second"] / streams["transformers"][n]["bytes_per_second"]
            for n, found in streams["mamba"].items()
        },
        "engine_bytes_per_second": part["engine"]["bytes"] / part["engine"]["seconds"],
        "constant_state_bytes": [row["bytes"] - row["main_network_bytes"] for row in part["state"]],
    }


def _length(part: Part) -> dict[str, Any]:
    """`flatness` is the dearest byte over the cheapest; memory is fitted as a line through all lengths."""
    lengths = np.array([row["length"] for row in part["steps"]], dtype=float)
    peak = np.array([row["peak_bytes"] for row in part["steps"]], dtype=float)
    cost, own = ([row["seconds"] / row["step_bytes"] for row in part[key]] for key in ("steps", "own_window"))
    return {
        "seconds_per_byte": cost,
        "flatness": max(cost) / min(cost),
        "own_window_seconds_per_byte": own,
        "own_window_flatness": max(own) / min(own),
        "memory_fit": _line(lengths, peak),
    }


def _line(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """y = slope x + intercept, fitted to relative errors, and the largest of those."""
    slope, intercept = np.polyfit(x, y, 1, w=1 / y)
    largest_error = np.abs((slope * x + intercept) / y - 1).max()
    return {"slope": float(slope), "intercept": float(intercept), "largest_error": float(largest_error)}


def _reading(part: Part) -> dict[str, Any]:
    return {"bytes_per_second": [(span["end"] - span["start"]) / span["seconds"] for span in part["spans"]]}
