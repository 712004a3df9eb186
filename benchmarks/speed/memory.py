"""The memory of this process: how much it has, and the most it had since a moment. Linux, or a CUDA device."""

import re
from pathlib import Path

import torch


def reset_peak(device: torch.device) -> None:
    """From now on `peak_bytes` counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def current_bytes(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("self/status", "VmRSS")


def peak_bytes(device: torch.device) -> int:
    """Unlike `getrusage`, the kernel's figure for this process alone, not for the one that started it."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("self/status", "VmHWM")


def available_bytes(device: torch.device) -> int:
    """What may still be used."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _status("meminfo", "MemAvailable")


def _status(file: str, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", Path("/proc", file).read_text(), re.MULTILINE)
    assert found is not None, key
    return int(found[1]) * 1024
