"""How many CPUs this process may really use: its affinity mask and the CPU quota of its cgroup.

A container that is limited to two CPUs of a host with 64 sees all 64. Threads beyond the quota do not run beside the
others: the kernel stops all of them until the next period, those with work among them.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CGROUP_FILE = Path("/proc/self/cgroup")
CGROUP_MOUNT = Path("/sys/fs/cgroup")


@cache
def usable_cpus() -> int:
    """At least 1. A quota of 2.5 CPUs counts as 2."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(CGROUP_FILE, CGROUP_MOUNT)
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def cgroup_quota(cgroup_file: Path, mount: Path) -> float | None:
    """CPUs that the process's cgroup and those around it allow, of version 1 or 2; None without a limit."""
    quotas = [quota for folder in _cgroup_folders(cgroup_file, mount) if (quota := _folder_quota(folder)) is not None]
    return min(quotas, default=None)


def _cgroup_folders(cgroup_file: Path, mount: Path) -> Iterator[Path]:
    """Where a limit may be. In a container the path may be the host's, and only the root of the mount exists."""
    for line in (_read(cgroup_file) or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        roots = [mount]
        if controllers:
            if "cpu" not in controllers.split(","):
                continue
            roots = [mount / controllers, mount / "cpu"]
        own = Path(path.lstrip("/"))
        for root in roots:
            yield from (root / part for part in (own, *own.parents))


def _folder_quota(folder: Path) -> float | None:
    limit = _read(folder / "cpu.max")  # version 2: "200000 100000", or "max 100000"
    if limit is None:
        limit = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"  # version 1; -1: no limit
    quota, period = (*limit.split(), "", "")[:2]
    if not quota.isdecimal() or not period.isdecimal() or not int(quota) or not int(period):
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
