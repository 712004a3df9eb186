"""The results as Markdown: the machine and its peaks, the targets, then a table a part."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from speed.ops import PASSES
from speed.targets import TARGETS

Results = Mapping[str, Any]


def markdown(results: Results) -> str:
    """All that was measured. Names such as `bench` are explained in the benchmarks' README."""
    sections = [_heading(results), _targets(results)]
    for name, section in SECTIONS.items():
        if name in results["parts"]:
            sections.append(section(results["parts"][name], results["summary"].get(name)))
    return "\n\n".join(sections) + "\n"


def _heading(results: Results) -> str:
    machine = results["machine"]
    facts = (
        f"{machine['processor']}, {machine['cores']} cores ({machine['instructions']}), {machine['threads']} threads "
        f"(idle: {machine['idle_threads']}), "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {machine['device']}; torch {machine['torch']}, "
        f"Python {machine['python']}."
    )
    rows = [
        [name, part["measured"]["date"], part["measured"]["load_before"], f"`{part['measured']['command']}`"]
        for name, part in results["parts"].items()
    ]
    how = _table(("part", "measured at", "load before", "command"), rows)
    return f"# Speed ({results['settings']} settings)\n\n{facts} Medians of subjects taken in turn.\n\n{how}"


def _targets(results: Results) -> str:
    rows = [target.row(results["summary"], results["parts"]) for target in TARGETS]
    return "## Targets\n\n" + _table(("target", "measured", ""), rows)


def _peaks(part: Results, summary: Results) -> str:
    rows = [
        [f"matrix product, {name}", f"{found['flops_per_second'] / 1e9:.1f} GFLOP/s", f"size {found['size']}"]
        for name, found in part["matmul"].items()
    ]
    read = part["memory_read"]
    size = f"{read['buffer_bytes'] / 2**20:.0f} MiB, by {read['by']}"
    rows.append(["memory read", f"{read['bytes_per_second'] / 1e9:.1f} GB/s", size])
    return f"## Peaks\n\n{_table(('', 'peak', ''), rows)}\n\nShares are of {summary['type']} matrix products."


def _training(part: Results, summary: Results) -> str:
    columns = ("model", "layout", "parameters", "bytes a step", "MFLOP/byte", "s/step", "bytes/s", "GFLOP/s", "of peak")
    tables = []
    for group, title in (("matched", "Matched in FLOPs a byte"), ("mamba", "With equal layers")):
        rows = [
            [
                name,
                f"`{row['layout']}` {row['widths']}",
                f"{row['parameters'] / 1e6:.2f} M",
                row["bytes"],
                f"{row['flops_per_byte'] / 1e6:.1f}",
                f"{row['seconds']:.3f}",
                f"{summary[group][name]['bytes_per_second']:.0f}",
                f"{summary[group][name]['flops_per_second'] / 1e9:.2f}",
                _percent(summary[group][name].get("share_of_peak")),
            ]
            for name, row in part[group].items()
        ]
        tables.append(f"{title}:\n\n{_table(columns, rows)}")
    ratios = ", ".join(f"{name} {value:.2f}" for name, value in summary["seconds_per_flop"].items())
    tables.append(
        f"Bytes a chunk of `bench`: {part['matched']['bench']['bytes_per_chunk'][0]:.2f}. Wall time a FLOP, relative "
        f"to `llamabyte`: {ratios}. Ours beside the faster transformers' Mamba2: "
        f"{summary['times_transformers']:.2f} times."
    )
    return "\n\n".join(["## Training step", *tables])


def _ops(part: Results, summary: Sequence[Results]) -> str:
    rows = [
        [row["op"], row["shape"], row["backend"], *(cell for name in PASSES for cell in _op_cells(row, found, name))]
        for row, found in zip(part["rows"], summary, strict=True)
    ]
    columns = ["op", "shape", "backend", *(name for key in PASSES for name in (key.replace("_", " "), "of peak"))]
    return f"## Ops\n\nMicroseconds a position.\n\n{_table(columns, rows)}"


def _op_cells(row: Results, found: Results, name: str) -> tuple[str, str]:
    if name not in row:
        return "", ""
    if name not in found:
        return row[name]["error"], ""
    return f"{found[name]['us_per_position']:.3g}", _percent(found[name].get("share_of_peak"))


def _decoding(part: Results, summary: Results) -> str:
    rows = [
        [
            row["model"],
            row["streams"],
            f"{1e3 * found['seconds_per_step']:.2f}",
            f"{found['bytes_per_second']:.0f}",
            f"{row['weight_bytes_read'] / 1e6:.1f}" if "weight_bytes_read" in row else "",
            _percent(found.get("share_of_bound")),
        ]
        for row in part["streams"]
        for found in [summary["streams"][row["model"]][str(row["streams"])]]
    ]
    columns = ("model", "streams", "ms/step", "bytes/s", "MB of weights a byte", "of the bandwidth bound")
    engine, state = part["engine"], part["state"]
    lines = [
        f"Times one stream: {_by_number(summary['times_one_stream'])}.",
        f"`mamba` beside transformers' Mamba2: {_by_number(summary['times_transformers'])}.",
        f"`hnet_lm.generate`, one prompt, sampled: {summary['engine_bytes_per_second']:.0f} bytes/s "
        f"({engine['bytes_per_chunk'][0]:.1f} bytes a chunk in the random bytes that come).",
    ]
    held = _table(
        ("context", "state, KiB", "of it main network, KiB"),
        [[row["context"], _kib(row["bytes"]), _kib(row["main_network_bytes"])] for row in state],
    )
    return "\n\n".join(["## Decoding", _table(columns, rows), " ".join(lines), "State of one stream:", held])


def _startup(part: Results, summary: None) -> str:
    rows = [[name, f"{part[name]['seconds']:.2f}"] for name in part if name != "measured"]
    step = part["first record of the demo"]["step"]
    note = f"The demonstration writes its first record after step {step}."
    return f"## Startup\n\n{_table(('', 's'), rows)}\n\n{note}"


def _length(part: Results, summary: Results) -> str:
    rows = [
        [
            row["length"],
            row["window"],
            f"{row['bytes_per_chunk'][0]:.2f}",
            f"{row['seconds']:.3f}",
            f"{1e6 * cost:.1f}",
            f"{row['peak_bytes'] / 2**20:.0f}",
        ]
        for key, costs in (("steps", "seconds_per_byte"), ("own_window", "own_window_seconds_per_byte"))
        for row, cost in zip(part[key], summary[costs], strict=True)
    ]
    columns = ("bytes", "window", "bytes a chunk", "s/step", "us a byte", "peak memory of one sequence, MiB")
    memory = summary["memory_fit"]
    text = (
        f"Steps of {part['steps'][0]['step_bytes']} bytes. Dearest over cheapest byte: {summary['flatness']:.2f}; with "
        f"the model's own windows {summary['own_window_flatness']:.2f}. Memory as a line: {memory['slope'] / 1024:.1f} "
        f"KiB a byte and {memory['intercept'] / 2**20:.0f} MiB, off by at most {memory['largest_error']:.1%}."
    )
    return "\n\n".join(["## Training by length, all attention windowed", _table(columns, rows), text])


def _reading(part: Results, summary: Results) -> str:
    rows = [
        [f"{span['start']} to {span['end']}", f"{speed:.0f}", _kib(span["state_bytes"])]
        for span, speed in zip(part["spans"], summary["bytes_per_second"], strict=True)
    ]
    return f"## Reading with a state, `{part['model']}`\n\n" + _table(("bytes", "bytes/s", "state, KiB"), rows)


SECTIONS = {
    "peaks": _peaks,
    "training": _training,
    "decoding": _decoding,
    "ops": _ops,
    "length": _length,
    "reading": _reading,
    "startup": _startup,
}


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _kib(num_bytes: int) -> str:
    return f"{num_bytes / 1024:.1f}"


def _by_number(values: Mapping[str, float]) -> str:
    return ", ".join(f"{number} streams {value:.1f}" for number, value in values.items())
