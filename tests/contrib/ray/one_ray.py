"""The Ray cluster of ray.sh: a head, and two nodes that can be lost."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from job_processes import frozen, processes
from ports import free_ports

SCRIPT = Path(__file__).with_name("ray.sh")
N_PORTS = 6
"""Of the head, its dashboard, its server of Ray clients, and the agents of three nodes."""
OF_DEFAULT = ("ray", "aiohttp", "aiohttp_cors", "pydantic", "opencensus")
"""Modules without which there is no dashboard."""


def whats_lacking() -> str | None:
    """Return why there can be no cluster here."""
    missing = [one for one in OF_DEFAULT if importlib.util.find_spec(one) is None]
    return f"ray[default] is not installed: {', '.join(missing)}" if missing else None


class RayCluster:
    """Started once; its commands find it by `env`."""

    processes = staticmethod(processes)
    frozen = staticmethod(frozen)

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets have short paths
        port = free_ports(N_PORTS, first=20000)
        self.address = f"http://127.0.0.1:{port + 1}"
        self.env = {
            **os.environ, "RAY_PORT": str(port), "RAY_NET": str(2 + os.getpid() % 250),
            "PYTHON": sys.executable, "RAY_API_SERVER_ADDRESS": self.address,
        }  # fmt: skip

    def up(self, nodes: int) -> str | None:
        """Start it; return why it does not."""
        done = self._script("up", str(nodes))
        return done.stdout if done.returncode else None

    def down(self) -> None:
        self._script("down")
        shutil.rmtree(self.folder, ignore_errors=True)

    def lose(self, node: str) -> None:
        assert self._script("lose", node).returncode == 0

    def back(self, node: str) -> None:
        done = self._script("back", node)
        assert done.returncode == 0, done.stdout

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.address}{path}", timeout=60) as answer:
            return json.load(answer)

    def jobs(self, run: Path | None = None, *states: str) -> list[dict[str, Any]]:
        """Return the jobs of a run, or all, oldest first; those of some states, or all."""
        told = sorted(self.get("/api/jobs/"), key=lambda one: one["start_time"])
        return [
            one
            for one in told
            if (run is None or (one["metadata"] or {}).get("folder") == str(run))
            and (not states or one["status"] in states)
        ]

    def asked(self, job: dict[str, Any]) -> dict[str, float]:
        """Return what a job asks of a node."""
        told = self.get("/api/v0/actors?detail=1&limit=10000")["data"]["result"]["result"]
        name = f"_ray_internal_job_actor_{job['submission_id']}"
        [actor] = [one for one in told if one["name"] == name]
        found: dict[str, float] = actor["required_resources"]
        return found

    def node_of(self, job: dict[str, Any]) -> str:
        told = self.get("/api/v0/nodes?detail=1")["data"]["result"]["result"]
        [ip] = [one["node_ip"] for one in told if one["node_id"] == job["driver_node_id"]]
        return f"n{int(ip.rpartition('.')[2]) - 1}"

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Have all CPUs taken."""
        holders = [self._post("/api/jobs/", entrypoint="exec sleep 600", entrypoint_num_cpus=2)
                   for _ in range(2)]  # fmt: skip
        ids = [one["submission_id"] for one in holders]
        self.until(lambda: all(self.get(f"/api/jobs/{id}")["status"] == "RUNNING" for id in ids))
        try:
            yield
        finally:
            for id in ids:
                self._post(f"/api/jobs/{id}/stop")

    def until(self, moment: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for something that happens on the cluster."""
        last = time.monotonic() + seconds
        while not moment():
            assert time.monotonic() < last, self.jobs()
            time.sleep(0.1)

    def _post(self, path: str, **fields: Any) -> Any:
        data = json.dumps(fields).encode()
        with urllib.request.urlopen(f"{self.address}{path}", data, timeout=60) as answer:
            return json.load(answer)

    def _script(self, what: str, *more: str) -> subprocess.CompletedProcess[str]:
        # Nodes keep what they are given open: files, and no pipes that would never end.
        with tempfile.TemporaryFile("w+") as log:
            done = subprocess.run(
                ["bash", str(SCRIPT), what, str(self.folder), *more],
                env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=400,
                check=False,
            )  # fmt: skip
            log.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, log.read(), "")
