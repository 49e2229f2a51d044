"""The SkyPilot and the AWS of skypilot.sh: a network namespace on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("skypilot.sh")
PROGRAMS = ("ip", "unshare", "ssh", "rsync", "sudo", "curl")
SETUP = f"executor.setup=bash {SCRIPT.with_name('skypilot_node.sh')} {sys.executable}"


def whats_lacking() -> str | None:
    """Return why there can be no SkyPilot here."""
    if not os.environ.get("STRATOS_SKY"):
        return f"STRATOS_SKY names no environment with SkyPilot: see {SCRIPT.name}"
    if os.geteuid():
        return "namespaces take root"
    missing = [one for one in PROGRAMS if shutil.which(one) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class Sky:
    """Started once; commands run in its namespace by `prefix`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stratos-sky-", dir="/var/tmp"))
        self.prefix = ("bash", str(SCRIPT), "run", str(self.folder))

    def up(self) -> str | None:
        """Start it; return why it does not."""
        with (self.folder / "up.log").open("w+") as log:
            done = subprocess.run(
                ["bash", str(SCRIPT), "up", str(self.folder)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=300, check=False,
            )  # fmt: skip
        told = "".join(one.read_text() for one in self.folder.glob("*.log"))
        return None if done.returncode == 0 else told

    def down(self) -> None:
        subprocess.run(["bash", str(SCRIPT), "down", str(self.folder)], timeout=120, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def instances(self) -> list[str]:
        """Return the instances that run."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "live").read_text().split()
        return []

    def boots(self) -> int:
        """Return how many instances were ever started."""
        return (self.folder / "aws.log").read_text().count("boot ")

    def interrupt(self) -> None:
        """Take the instance that runs, as AWS takes a spot instance."""
        [one] = self.instances()
        (self.folder / "spot" / one).touch()
        deadline = time.monotonic() + 60
        while self.instances():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def clusters(self) -> str:
        """Return what SkyPilot thinks that there is."""
        done = subprocess.run(
            [*self.prefix, "sky", "status", "--output", "json"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.stdout[done.stdout.rindex("\n[") if "\n[" in done.stdout else 0 :].strip()

    def launched(self) -> list[dict[str, Any]]:
        """Return what AWS tells of all instances, also of those that are gone."""
        done = subprocess.run(
            [*self.prefix, "aws", "ec2", "describe-instances", "--output", "json"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        groups = json.loads(done.stdout)["Reservations"]
        return [instance for group in groups for instance in group["Instances"]]

    @contextlib.contextmanager
    def refusing(self, *names: str) -> Iterator[None]:
        """Let no instance start, for want of capacity.

        Args:
            names: zones and instance types that there are none of; without one, all.
        """
        with self._file("refuse", "\n".join(names)):
            yield

    @contextlib.contextmanager
    def denying(self, region: str) -> Iterator[None]:
        """Say nothing of a region, as a policy has it."""
        with self._file(f"deny/{region}"):
            yield

    @contextlib.contextmanager
    def _file(self, name: str, text: str = "") -> Iterator[None]:
        (self.folder / name).write_text(text)
        try:
            yield
        finally:
            (self.folder / name).unlink()
