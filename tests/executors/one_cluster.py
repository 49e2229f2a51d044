"""The SLURM of tests/clusters/slurm.sh, in its own network namespace if it may have one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "clusters" / "slurm.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")


def whats_lacking() -> str | None:
    """Return why there can be no cluster here."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    missing = [one for one in PROGRAMS if shutil.which(one, path=path) is None]
    if missing:
        return f"SLURM is not installed: {', '.join(missing)}"
    if importlib.util.find_spec("submitit") is None:
        return "submitit is not installed"
    return None


class Cluster:
    """Started once; every command of it runs where its daemons do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port = 17600 + os.getpid() % 2000 * 10
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
        self.env = {
            **os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "SLURM_PORT": str(port),
            "PATH": path,
        }  # fmt: skip
        self.prefix = self._namespace()

    def up(self, nodes: int) -> None:
        done = self._script("up", str(nodes))
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        self._script("down")
        if self.prefix:
            subprocess.run(["ip", "netns", "del", self.prefix[3]], check=False)

    def lose(self, node: str) -> None:
        done = self._script("lose", node)
        assert done.returncode == 0, done.stdout + done.stderr

    def back(self, node: str) -> None:
        done = self._script("back", node)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [*self.prefix, *command], env=self.env, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Return the states of all jobs that wait or run."""
        return self.run("squeue", "-h", "-o", "%T").split()

    def node_of_the_job(self) -> str:
        return self.run("squeue", "-h", "-t", "R", "-o", "%N")

    def processes(self, run: Path) -> list[int]:
        """Return the processes of jobs of a run folder."""
        found = []
        for one in Path("/proc").glob("[0-9]*"):
            try:
                words = (one / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"--job" in words and str(run).encode() in words:
                found.append(int(one.name))
        return found

    def _script(self, what: str, *more: str) -> subprocess.CompletedProcess[str]:
        # Daemons keep what they are given open: files, and no pipes that would never end.
        with (self.folder / "script.log").open("w+") as log:
            done = subprocess.run(
                [*self.prefix, "bash", str(SCRIPT), what, str(self.folder), *more],
                env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=90,
                check=False,
            )  # fmt: skip
            log.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, log.read(), "")

    def _namespace(self) -> list[str]:
        """Return what runs a command where nothing but this machine can be reached, if anything."""
        name, (a, b) = f"stratos-{os.getpid()}", ("v0", "v1")
        steps = [
            ["ip", "netns", "add", name],
            ["ip", "-n", name, "link", "set", "lo", "up"],
            # SLURM wants an address that is not loopback.
            ["ip", "-n", name, "link", "add", a, "type", "veth", "peer", "name", b],
            ["ip", "-n", name, "addr", "add", "10.99.9.1/24", "dev", a],
            ["ip", "-n", name, "link", "set", a, "up"],
            ["ip", "-n", name, "link", "set", b, "up"],
        ]
        if sys.platform != "linux" or shutil.which("ip") is None:
            return []
        for step in steps:
            if subprocess.run(step, capture_output=True, check=False).returncode:
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
                return []
        return ["ip", "netns", "exec", name]
