"""torchrun starts a run anew when a rank dies, and it goes on from its last checkpoint to where it would have come."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import losses, run_config, run_table, weights

from hnet_lm.training.loop import train

DRIVER = Path(__file__).with_name("elastic_driver.py")
NUM_STEPS = 6
TIMEOUT = 900.0
HOSTS = {"a": "10.231.17.1", "b": "10.231.17.2"}
CUT = 10.0
"""Seconds for which the link between the hosts is down."""
pytestmark = pytest.mark.long


def tables(num_steps: int = NUM_STEPS) -> dict[str, Any]:
    return {"run": {"num_steps": num_steps}, "checkpoints": {"every": 2, "before_decay": False}}


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hnet_lm.training.records.matmul_peak", lambda *_: 1e9)


def write(folder: Path, num_steps: int = NUM_STEPS, **asked: Any) -> Path:
    file = folder / "asked.json"
    file.write_text(json.dumps({"table": run_table(folder, 1, "elastic", **tables(num_steps)), **asked}))
    return file


def torchrun(file: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options, str(DRIVER), str(file)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def assert_undisturbed(folder: Path, num_steps: int = NUM_STEPS) -> None:
    """Each step is there once, with the losses and the final weights of one process."""
    shape = tables(num_steps)
    train(run_config(folder, 1, "alone", **{**shape, "run": {**shape["run"], "accumulation": 2}}))
    assert losses(folder / "elastic") == pytest.approx(losses(folder / "alone"), abs=1e-5)
    for name, tensor in weights(folder / "alone").items():
        torch.testing.assert_close(weights(folder / "elastic")[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_a_rank_that_is_killed(tmp_path: Path) -> None:
    file = write(tmp_path, kill={"rank": 1, "after": 3})
    command = torchrun(file, "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "exitcode: -9" in done.stderr
    assert_undisturbed(tmp_path)


def why_no_namespaces() -> str | None:
    """What keeps this process from making hosts of its own; None: nothing does."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "no `ip` (iproute2) on this machine"
    probe = f"hnetlm-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces are not allowed: {made.stderr.strip()}"
    ip("netns", "del", probe)
    return None


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[dict[str, str]]:
    """Names of two network namespaces that a pair of virtual devices connects."""
    names = {host: f"hnetlm-{host}-{os.getpid()}" for host in HOSTS}
    try:
        for name in names.values():
            ip("netns", "add", name)
        ip("link", "add", "hnet-a", "netns", names["a"], "type", "veth", "peer", "name", "hnet-b", "netns", names["b"])
        for host, name in names.items():
            ip("-n", name, "address", "add", f"{HOSTS[host]}/24", "dev", f"hnet-{host}")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", f"hnet-{host}", "up")
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Host:
    """torchrun in a namespace."""

    def __init__(self, name: str, host: str, file: Path, log: Path) -> None:
        self._command = [
            *("ip", "netns", "exec", name),
            *torchrun(file, "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3", "--rdzv-id", "test"),
        ]
        keeps_store = "1" if host == "a" else "0"  # torch does not find the addresses of a namespace by itself
        own = [
            "--rdzv-conf",
            f"is_host={keeps_store}",
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            f"{HOSTS['a']}:29417",
            "--local-addr",
            HOSTS[host],
        ]
        self._command[-2:-2] = own
        self._environment = environment(GLOO_SOCKET_IFNAME=f"hnet-{host}", TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
        self.log = log
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """The whole host: torchrun and its rank, which has a session of its own."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for process in [self.process.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


def wait_for(progress: Path, number: int, hosts: list[Host]) -> None:
    give_up = time.monotonic() + TIMEOUT
    while not progress.exists() or int(progress.read_text() or 0) < number:
        assert time.monotonic() < give_up, [host.log.read_text()[-2000:] for host in hosts]
        assert all(host.process.poll() is None for host in hosts), [host.log.read_text()[-2000:] for host in hosts]
        time.sleep(0.1)


def test_two_hosts_whose_link_is_cut_and_of_which_one_is_killed(tmp_path: Path) -> None:
    reason = why_no_namespaces()
    if reason:
        print(reason)
        pytest.skip(reason)
    num_steps, progress = 12, tmp_path / "progress"
    file = write(tmp_path, num_steps, progress=str(progress), pause=0.5)
    with two_hosts() as names:
        hosts = [Host(names[host], host, file, tmp_path / f"{host}.log") for host in HOSTS]
        try:
            wait_for(progress, 3, hosts)
            ip("-n", names["a"], "link", "set", "hnet-a", "down")
            time.sleep(CUT)
            ip("-n", names["a"], "link", "set", "hnet-a", "up")
            wait_for(progress, 7, hosts)
            hosts[1].kill()
            time.sleep(1.0)
            hosts[1].start()
            for host in hosts:
                assert host.process.wait(TIMEOUT) == 0, [host.log.read_text()[-3000:] for host in hosts]
        finally:
            for host in hosts:
                if host.process.poll() is None:
                    host.kill()
    assert_undisturbed(tmp_path, num_steps)
