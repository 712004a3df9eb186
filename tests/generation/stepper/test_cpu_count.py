"""The CPUs that a process may use: of all that the kernel says about cgroups, the tightest limit holds."""

from pathlib import Path

import pytest

from hnet_lm.generation.stepper.cpu.cpu_count import cgroup_quota, usable_cpus


def quota(folder: Path, cgroup: str, **limits: str) -> float | None:
    """With this /proc/self/cgroup, and files of these contents under the mount; `__` stands for a slash."""
    (folder / "cgroup").write_text(cgroup)
    mount = folder / "mount"
    mount.mkdir()
    for name, content in limits.items():
        path = mount / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return cgroup_quota(folder / "cgroup", mount)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("200000 100000\n", 2.0),
        ("50000 100000\n", 0.5),
        ("max 100000\n", None),
        ("150000 50000", 3.0),
        ("", None),
        ("nonsense", None),
        ("100000 0", None),
        ("0 100000", None),
    ],
)
def test_version_2(tmp_path: Path, limit: str, expected: float | None) -> None:
    assert quota(tmp_path, "0::/user/app\n", user__app__cpu_DOT_max=limit) == expected


def test_version_2_the_tightest_of_all_around_it(tmp_path: Path) -> None:
    limits = {"a__b__cpu_DOT_max": "max 100000", "a__cpu_DOT_max": "300000 100000", "cpu_DOT_max": "400000 100000"}
    assert quota(tmp_path, "0::/a/b\n", **limits) == 3.0


@pytest.mark.parametrize("mounted", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("microseconds", "expected"), [("250000", 2.5), ("-1", None)])
def test_version_1(tmp_path: Path, mounted: str, microseconds: str, expected: float | None) -> None:
    limits = {
        f"{mounted}__app__cpu_DOT_cfs_quota_us": microseconds,
        f"{mounted}__app__cpu_DOT_cfs_period_us": "100000\n",
    }
    assert quota(tmp_path, "4:memory:/app\n3:cpu,cpuacct:/app\n0::/\n", **limits) == expected


def test_version_1_in_a_container_that_sees_the_path_of_the_host(tmp_path: Path) -> None:
    limits = {"cpu__cpu_DOT_cfs_quota_us": "100000", "cpu__cpu_DOT_cfs_period_us": "100000"}
    assert quota(tmp_path, "3:cpu:/docker/0123abc\n", **limits) == 1.0


@pytest.mark.parametrize("cgroup", ["", "0::/\n", "nonsense\n", "3:cpu:/absent\n", ":::\n"])
def test_no_limit_where_nothing_says_so(tmp_path: Path, cgroup: str) -> None:
    assert quota(tmp_path, cgroup) is None


def test_no_limit_without_cgroups(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "absent", tmp_path / "absent") is None


def test_this_machine() -> None:
    assert usable_cpus() >= 1
