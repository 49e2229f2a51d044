"""A job as a task of SkyPilot: pure functions from what the plan chose to what is launched."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.core.extensions import filled
from stratos.core.extras import TRAIN
from stratos.executors.job import JobSpec

LONGEST_NAME = 42
"""Characters that the pickiest of the clouds takes; SkyPilot shortens what is longer itself."""
SENT = "sent"
"""Folder on the node with what this machine sends."""
RUN, WHEEL, PINS, CACHE = "run.tar", "wheel", "pins.txt", "cache"
"""Files of it: the run folder, a folder with the wheel of Stratos, versions of what it needs, a
folder with what the cache of the node begins with."""


TIMED_OUT = 124
"""Exit code of `timeout` where the time was over."""


@dataclass(frozen=True)
class Server:
    """The server that is asked for: that of the plan, or what the settings have in its place."""

    infra: str
    """cloud/region, or any other infra of SkyPilot."""
    instance_type: str | None
    accelerators: str | None
    """Such as "A10G:1"."""
    spot: bool

    @property
    def name(self) -> str:
        """Short name for messages."""
        spot = ", spot" if self.spot else ""
        return " ".join(word for word in (self.infra, self.instance_type or self.accelerators or "")
                        if word) + spot  # fmt: skip

    @property
    def cloud(self) -> str:
        """Name of the cloud; "" for any."""
        return self.infra.partition("/")[0]


def cluster_name(job: str) -> str:
    """Return the name of a job's cluster: one that every cloud takes, the same at every start."""
    plain = re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-")
    if plain == job and len(plain) <= LONGEST_NAME and plain[:1].isalpha():
        return plain
    mark = hashlib.sha256(job.encode()).hexdigest()[:6]
    head = plain if plain[:1].isalpha() else f"job-{plain}"
    return f"{head[: LONGEST_NAME - 7].rstrip('-')}-{mark}"


def base_of(cluster: str) -> str:
    """Return the folder of a job on its node, from the home there."""
    return f".stratos/{cluster}"


def task_of(
    spec: JobSpec,
    server: Server,
    *,
    sent: Path,
    setup: str,
    idle_minutes: int | None,
    image: str | None = None,
    disk_gib: int | None = None,
    most_usd_per_hour: float | None = None,
) -> dict[str, Any]:
    """Return a task in SkyPilot's YAML schema.

    Args:
        spec: the job.
        server: its server.
        sent: folder of this machine with what the node gets.
        setup: shell commands that install Stratos, see `install`.
        idle_minutes: after which the server ends itself where no job is left; None for never.
        image: of the server, in SkyPilot's words.
        disk_gib: of the server.
        most_usd_per_hour: of a server that SkyPilot chooses by its GPUs.
    """
    name = cluster_name(spec.name)
    resources: dict[str, Any] = {
        "infra": server.infra,
        "instance_type": server.instance_type,
        "accelerators": server.accelerators,
        "use_spot": server.spot,
        "image_id": image,
        "disk_size": disk_gib,
        "max_hourly_cost": most_usd_per_hour,
        "labels": {"stratos-run": _label(spec.folder.name), "stratos-role": _label(spec.role)},
    }
    if idle_minutes is not None:
        # An open connection is no work: what follows a job may be gone.
        resources["autostop"] = {"idle_minutes": idle_minutes, "down": True, "wait_for": "jobs"}
    return {
        "name": name,
        "num_nodes": spec.nodes,
        "resources": {key: value for key, value in resources.items() if value not in (None, "")},
        "envs": dict(spec.env),
        "file_mounts": {
            f"~/{base_of(name)}/{SENT}": str(sent),
            # Under the same path as here: that is how the config names them.
            **{str(path): str(path) for path in spec.files},
        },
        "run": script_of(spec, setup),
    }


def script_of(spec: JobSpec, setup: str) -> str:
    """Return what the node runs."""
    name = cluster_name(spec.name)
    limit = "" if spec.hours is None else f"timeout --kill-after=180 {spec.hours * 3600:.0f} "
    return filled(
        __file__,
        "stage.sh.jinja",
        base=base_of(name),
        sent=f'"$HOME"/{base_of(name)}/{SENT}',
        venv=f"{base_of(name)}/venv",
        run=shlex.quote(str(spec.folder)),
        packed=RUN,
        cache=CACHE,
        setup=setup,
        limit=limit,
        command=shlex.join(spec.command[1:]),
    )


def install(python: str, packages: tuple[str, ...]) -> str:
    """Return the commands that install the wheel that was sent.

    Args:
        python: version, such as "3.12".
        packages: what is installed beside it, as pip names it.
    """
    more = "".join(f" {shlex.quote(package)}" for package in packages)
    return filled(
        __file__,
        "install.sh.jinja",
        python=python,
        pins=PINS,
        wheel=WHEEL,
        extra=TRAIN,
        packages=more,
    )


def _label(text: str) -> str:
    """Return a text that every cloud takes as the value of a label."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "none"
