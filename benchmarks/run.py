"""How fast it is: the whole speed benchmark, or some of its parts.

    python benchmarks/run.py [--quick] [--only NAME ...] [--output FOLDER]

Writes `speed.json`, `speed.md` and `speed.png` after every part, so it can be stopped; parts named by --only replace
themselves in what is there. --quick takes tiny models and a minute, and only shows that everything runs.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from speed.figure import save_figure
from speed.machine import choose_device, machine_facts, provenance
from speed.report import markdown
from speed.settings import FULL, QUICK, ROOT, Settings
from speed.summary import summarize

PARTS = ("peaks", "training", "decoding", "ops", "length", "reading", "startup")
FORMAT = 2
"""Of the results: another number where a part says other things than before."""
OUTPUTS = {"full": ROOT / "benchmarks" / "results", "quick": ROOT / "runs" / "speed_quick"}


class OtherResults(ValueError):
    """The folder holds results that these cannot stand beside."""


def run(settings: Settings, names: list[str], folder: Path) -> None:
    """Measure these parts and write the results. Raises OtherResults."""
    device = choose_device()
    about = {"format": FORMAT, "settings": settings.name, "machine": machine_facts(device)}
    folder.mkdir(parents=True, exist_ok=True)
    parts = _earlier_parts(folder / "speed.json", about)
    for name in names:
        print(f"{name} ...", flush=True)
        measured = provenance()
        parts[name] = {"measured": measured, **importlib.import_module(f"speed.{name}").measure(settings, device)}
        ordered = {part: parts[part] for part in PARTS if part in parts}
        write({**about, "summary": summarize(ordered), "parts": ordered}, folder)


def write(results: dict[str, Any], folder: Path) -> None:
    """The three files."""
    (folder / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "speed.md").write_text(markdown(results), encoding="utf-8")
    save_figure(results, folder / "speed.png")


def _earlier_parts(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return {}
    results = json.loads(path.read_text())
    was, now = (
        {"format": one.get("format"), "settings": one["settings"], **one["machine"]} for one in (results, about)
    )
    changed = [f"{key} {was.get(key)}, now {now[key]}" for key in now if was.get(key) != now[key]]
    if changed:
        raise OtherResults(f"{path} was measured otherwise ({'; '.join(changed)}); take another --output")
    return results["parts"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models; the figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--output", type=Path, help="default: benchmarks/results, with --quick runs/speed_quick")
    arguments = parser.parse_args()
    settings = QUICK if arguments.quick else FULL
    folder = arguments.output or OUTPUTS[settings.name]
    try:
        run(settings, arguments.only, folder)
    except OtherResults as error:
        parser.error(str(error))
    print((folder / "speed.md").read_text(encoding="utf-8"))
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
