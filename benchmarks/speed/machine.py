"""What a figure depends on beside the code: the machine, the versions, and what else was running."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine_facts(device: torch.device) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "idle_threads": os.environ.get("OMP_WAIT_POLICY", "as the library has it"),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def provenance() -> dict[str, Any]:
    """When and how a part was measured. A load well above 0 before it began casts doubt on its figures."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "load_before": round(os.getloadavg()[0], 2),
    }


def report(results: Mapping[str, Any], output: Path | None) -> None:
    """Print the results as JSON, and write them to the file that was asked for."""
    text = json.dumps(results, indent=1)
    print(text)
    if output is not None:
        output.write_text(text + "\n")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
