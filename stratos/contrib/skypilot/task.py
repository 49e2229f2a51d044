"""A job as a task of SkyPilot: pure functions from what the plan chose to what is launched."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stratos.core.extensions import filled
from stratos.core.extras import TRAIN
from stratos.executors.job import JobSpec
from stratos.records import Offer

LONGEST_NAME = 42
"""Characters that the pickiest of the clouds takes; SkyPilot shortens what is longer itself."""
SENT = "sent"
"""Folder on the node with what this machine sends: the run folder (run.tar), a folder with the
wheel of Stratos (wheel), versions of what it needs (pins.txt), and a folder with what the cache of
the node begins with (cache)."""
TIMED_OUT = 124
"""Exit code of `timeout` where the time was over."""


def slug(text: str) -> str:
    """Return a text as small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def resources_of(offer: Offer, spot: bool) -> dict[str, Any]:
    """Return a server of the plan in SkyPilot's YAML schema."""
    resources: dict[str, Any] = {
        "infra": f"{offer.cloud}/{offer.region}",
        "instance_type": offer.instance_type,
    }
    if offer.accelerator is not None:
        resources["accelerators"] = f"{offer.accelerator}:{offer.accelerator_count}"
    return {**resources, "use_spot": spot}


def server_name(resources: Mapping[str, Any]) -> str:
    """Return a short name of a server for messages, such as "aws/us-east-1 g5.xlarge, spot"."""
    kind = resources.get("instance_type") or resources.get("accelerators")
    spot = ", spot" if resources["use_spot"] else ""
    return " ".join(filter(None, (resources.get("infra"), kind))) + spot


def cluster_name(job: str) -> str:
    """Return the name of a job's cluster: one that every cloud takes, the same at every start."""
    plain = slug(job)
    if plain == job and len(plain) <= LONGEST_NAME and plain[:1].isalpha():
        return plain
    mark = hashlib.sha256(job.encode()).hexdigest()[:6]
    head = plain if plain[:1].isalpha() else f"job-{plain}"
    return f"{head[: LONGEST_NAME - 7].rstrip('-')}-{mark}"


def base_of(cluster: str) -> str:
    """Return the folder of a job on its node, from the home there."""
    return f".stratos/{cluster}"


def log_name(stage: str) -> str:
    """Return the name of the file with what a job prints, here and on its node."""
    return f"{stage}.log"


def task_of(spec: JobSpec, resources: Mapping[str, Any], sent: Path, setup: str) -> dict[str, Any]:
    """Return a task in SkyPilot's YAML schema.

    Args:
        spec: the job.
        resources: its server, in that schema.
        sent: folder of this machine with what the node gets.
        setup: shell commands that install Stratos, see `install`.
    """
    name = cluster_name(spec.name)
    labels = {"stratos-run": _label(spec.folder.name), "stratos-role": _label(spec.role)}
    return {
        "name": name,
        "num_nodes": spec.nodes,
        "resources": {**resources, "labels": labels},
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
        log=log_name(spec.stage),
        sent=f'"$HOME"/{base_of(name)}/{SENT}',
        venv=f"{base_of(name)}/venv",
        run=shlex.quote(str(spec.folder)),
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
    return filled(__file__, "install.sh.jinja", python=python, extra=TRAIN, packages=more)


def _label(text: str) -> str:
    """Return a text that every cloud takes as the value of a label."""
    return slug(text)[:60].strip("-") or "none"
