"""Stages as jobs on servers that SkyPilot rents: one cluster of its own for each, ended with it.

The server shares no file system with this machine. It is sent the run folder, and this version of
Stratos. What the stage says and writes is brought back while it runs, so that a server that is
taken back costs what was done since the last checkpoint. The record comes last, when the server is
gone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from msgspec import Meta
from typing_extensions import override

from stratos.contrib.skypilot.cluster import (
    SENT,
    Cluster,
    cluster_name,
    install,
    last_words,
    resources_of,
    server_name,
    sky,
    task_of,
)
from stratos.contrib.skypilot.follower import Following
from stratos.core.atomic_files import remove, write_atomically
from stratos.core.errors import StratosError
from stratos.core.extras import installed, pins, python_version, write_wheel
from stratos.core.reasons import Reason
from stratos.executors import submission
from stratos.executors.job import (
    FOLDER,
    Amount,
    Executor,
    Job,
    JobSpec,
    StageName,
    Status,
    folder_of,
)
from stratos.records import Offer, own_clouds

OLDEST = (0, 14)
"""Oldest version of SkyPilot that has all that is asked of it."""


class NoSky(Reason):
    """SkyPilot's program is not there, does not run, or is too old."""

    program: str
    error: str

    def __str__(self) -> str:
        oldest = ".".join(map(str, OLDEST))
        return (
            f"executor=skypilot takes SkyPilot {oldest} or newer, and {self.program} {self.error}. "
            "Type: python -m venv sky && sky/bin/pip install 'skypilot[aws]' (or another cloud), "
            "and executor.program=$PWD/sky/bin/sky."
        )


class NoProgram(Reason):
    """A program that files are sent with is nowhere."""

    program: str

    says = "executor=skypilot: there is no {program} on the PATH. Install it."


class NoCloud(Reason):
    """SkyPilot has no credentials."""

    says = (
        "executor=skypilot: SkyPilot may use no cloud: sky check finds no credentials. Type "
        "sky check, which says for each cloud what it lacks, or type executor=here."
    )


class NoPrice(Reason):
    """Another server than the plan's has no price."""

    says = (
        "executor.infra, executor.instance_type and executor.accelerators ask for another "
        "server than the plan's, whose price is not known. Type "
        "executor.usd_per_hour=<dollars>."
    )


@functools.cache
def _why_not(path: str) -> Reason | None:
    """Return why SkyPilot cannot launch anything, with what to type; None if it can."""
    answer = sky(path, "--version")
    version = re.search(r"(\d+)\.(\d+)[.\w]*", answer.stdout)
    if answer.returncode or version is None:
        return NoSky(path, f"--version fails ({last_words(answer.stderr)})")
    if (int(version[1]), int(version[2])) < OLDEST:
        return NoSky(path, f"is version {version[0]}")
    return None if enabled_clouds(path) else NoCloud()


@functools.cache
def enabled_clouds(path: str) -> tuple[str, ...]:
    """Return the clouds that SkyPilot may rent servers of, in small letters.

    Args:
        path: of SkyPilot's program.
    """
    answer = sky(path, "check", "--output", "json")
    _, start, rest = f"\n{answer.stdout}".partition("\n{")  # behind what else it says
    with contextlib.suppress(ValueError):
        listing = json.loads(f"{{{rest}") if start else {}
        return tuple(sorted(
            cloud.lower() for clouds in listing.values()
            for cloud, can in clouds.items() if "compute" in can
        ))  # fmt: skip
    return ()


_LEFT_OUT = frozenset((FOLDER, "wandb", "ledger.jsonl", ".lock", "answers"))
"""Of a run folder: money, tracking and answers that were paid stay with the command."""


def pack(spec: JobSpec, into: Path) -> None:
    """Write all that the node of a job needs into a folder.

    Args:
        spec: the job.
        into: is replaced.
    """
    run = spec.folder
    remove(into)
    (into / "wheel").mkdir(parents=True)
    write_wheel(into / "wheel")
    (into / "cache").mkdir()
    for name, data in spec.cache.items():
        (into / "cache" / name).write_bytes(data)
    (into / "pins.txt").write_text("".join(f"{pin}\n" for pin in pins()))
    with tarfile.open(into / "run.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(run.iterdir()):
            # What begins with a dot is being written, but for the config that Hydra keeps.
            if path.name not in _LEFT_OUT and (path.name == ".hydra" or path.name[0] != "."):
                tar.add(path, path.name)
        known = submission.path_of(run, spec.stage)
        tar.add(known, str(known.relative_to(run)))  # the job reads there what it was handed


_SSH = "ssh"
"""First part of an infra whose servers are the user's own: nobody bills what they send."""
_LEAST_MINUTES = 5.0
"""Between two times that what a stage has done is brought back."""
_LOST_SPOT, _LOST = 0.1, 0.001
"""Times an hour that a server is lost: on spot as the plan assumes, and any other."""

_following: dict[str, Following] = {}
"""Jobs that this process follows, by their clusters."""


@dataclass(frozen=True)
class SkyPilot(Executor):
    """Run stages on servers that SkyPilot rents."""

    kind: ClassVar[str] = "skypilot"
    shares_files: ClassVar[bool] = False
    ends_s: ClassVar[float] = 60.0
    serve_command: ClassVar[str] = (
        "sky serve up -n <name> outputs/<run>/deploy/serve.sky.yaml --secret STRATOS_KEY "
        "(on the planned servers; STRATOS_KEY is the key that you choose)"
    )
    stages: tuple[StageName, ...] = ("distill",)
    """Stages that run as jobs, of probe, synthesize, distill, evaluate and deploy; one that asks a
    hosted teacher, or needs no server, stays in this process."""
    infra: str | None = None
    """Where to rent, in SkyPilot's words, such as aws/us-east-1 or kubernetes; null takes the
    plan's server."""
    instance_type: str | None = None
    """Instance type, in place of the plan's server."""
    accelerators: str | None = None
    """GPUs in SkyPilot's words, such as A10G:1, in place of the plan's server."""
    spot: bool | None = None
    """Whether to rent spot servers; null does what the plan says. One whose spot price is not known
    is counted at its on-demand price."""
    image: str | None = None
    """Image of the server, such as docker:nvcr.io/nvidia/pytorch:25.10-py3; null takes
    SkyPilot's."""
    disk_gib: Annotated[int, Meta(ge=1)] | None = None
    """Disk of the server; null takes SkyPilot's default."""
    idle_minutes: Annotated[int, Meta(ge=1)] | None = 30
    """The server ends itself after so many minutes without a job, with what it has not sent back;
    null for clouds where it cannot."""
    setup: str | None = None
    """Shell commands that make $STRATOS_VENV/bin/python run the Stratos of $STRATOS_SENT; null
    installs it with uv, on the versions of this machine."""
    packages: tuple[str, ...] = ()
    """What is installed beside Stratos, such as bitsandbytes."""
    env: tuple[str, ...] = ()
    """Variables of this machine's environment that the job gets, such as HF_TOKEN."""
    fetch_every_minutes: Annotated[float, Meta(ge=0)] | None = None
    """How often what the stage has written is brought back, checkpoints among it; null takes what
    costs least: 5, and more where the cloud bills large checkpoints."""
    usd_per_gb: Amount | None = None
    """Dollars for a GB that the server sends to this machine; null takes the list price of its
    cloud."""
    program: str = "sky"
    """SkyPilot's program, where it is not on the PATH: it may live in an environment of its own."""

    def unusable(self) -> Reason | None:
        """Return why nothing can be launched; asks SkyPilot which clouds it may use."""
        if self._is_elsewhere and self.usd_per_hour is None:
            return NoPrice()
        for tool in ("ssh", "rsync"):
            if shutil.which(tool) is None:
                return NoProgram(tool)
        if shutil.which(self.program) is None:
            return NoSky(self.program, "is not there")
        return _why_not(self._sky)

    def submit(self, spec: JobSpec) -> Job:
        """Begin to launch the server of a job, or return the job of its name that is there."""
        _following.pop(cluster_name(spec.name), None)
        following = self._follow(spec)
        if following.is_there():
            return self._job(following, is_new=False)
        resources = self._checked(spec)
        following.down()  # what an earlier command may have left of it
        task = self._write(spec, resources, following.cluster.folder)
        following.launch(task, [name for name in self.env if name in os.environ])
        return self._job(following, is_new=True)

    def status(self, job: Job) -> Status:
        """Return how a job stands; changes no file."""
        following = self._follow(job.spec)
        job.log = following.log
        return following.status()

    def events(self, job: Job) -> Iterator[tuple[str, list[Any], bool]]:
        """Bring back what a job has said and written since the last call; yield what it said."""
        self._follow(job.spec).bring(job.may_copy)
        yield from super().events(job)

    def cancel(self, spec: JobSpec) -> float | None:
        """Have the stage save and end, bring back what it has done, and end the server."""
        following = self._follow(spec)
        with contextlib.suppress(StratosError, OSError):  # such as a full disk: it costs money yet
            following.tell_others()
            following.save()
        since = following.down()
        remove(following.cluster.folder)
        _following.pop(following.cluster.name, None)
        return since

    def release(self, job: Job) -> None:
        """End the server of a job that has ended, and put its record in place if it left one."""
        following = self._follow(job.spec)
        _following.pop(following.cluster.name, None)
        try:
            following.down()
        except StratosError:  # who pays for it is told; what it made is there all the same
            following.finish()
            raise
        following.finish()

    @override
    def usd_per_gb_of(self, offer: Offer | None, listed: Callable[[str], float]) -> float:
        if self.usd_per_gb is not None:
            return self.usd_per_gb
        if self._is_elsewhere:
            cloud = (self.infra or "").partition("/")[0]
        else:
            cloud = "" if offer is None else offer.cloud
        return 0.0 if cloud in (*own_clouds(), _SSH) else listed(cloud)

    @override
    def egress_gb(self, spec: JobSpec) -> float:
        returns = spec.returns
        if not returns.usd_per_gb:
            return 0.0
        n_copies = spec.planned_hours * 60 / max(1.0, self._minutes(spec))
        return returns.end_gb + (1 + n_copies) * returns.copy_gb

    def _minutes(self, spec: JobSpec) -> float:
        """Return the minutes between two times that what a stage has done is brought back.

        A copy costs C dollars; a server that is lost, r times an hour, costs what it did since the
        last one, at P dollars an hour. Their sum is least at sqrt(2·C / (r·P)) hours (Young 1974).
        """
        if self.fetch_every_minutes is not None:
            return self.fetch_every_minutes
        copy_usd = spec.returns.usd_per_gb * spec.returns.copy_gb
        lost_usd = spec.usd_per_hour * (_LOST_SPOT if self.rents_spot(spec.spot) else _LOST)
        if not (copy_usd and lost_usd):
            return _LEAST_MINUTES
        return max(_LEAST_MINUTES, 60 * math.sqrt(2 * copy_usd / lost_usd))

    @override
    def rents_spot(self, planned: bool) -> bool:
        return planned if self.spot is None else self.spot

    @property
    def _sky(self) -> str:
        return shutil.which(self.program) or self.program

    @property
    def _is_elsewhere(self) -> bool:
        """Whether the settings ask for another server than the plan's."""
        return any((self.infra, self.instance_type, self.accelerators))

    def _resources(self, spec: JobSpec) -> dict[str, Any] | None:
        """Return the server of a job in SkyPilot's schema; None where the plan has none to rent."""
        if self._is_elsewhere:
            resources: dict[str, Any] = {
                "infra": self.infra,
                "instance_type": self.instance_type,
                "accelerators": self.accelerators,
                "use_spot": self.rents_spot(spec.spot),
            }
            if self.instance_type is None and self.usd_per_hour:
                # The ledger counts that price, whatever server SkyPilot takes.
                resources["max_hourly_cost"] = self.usd_per_hour
        elif spec.offer is not None and spec.offer.is_rented:
            resources = resources_of(spec.offer, self.rents_spot(spec.spot))
        else:
            return None
        if self.idle_minutes is not None:
            # An open connection is no work: what follows a job may be gone.
            autostop = {"idle_minutes": self.idle_minutes, "down": True, "wait_for": "jobs"}
            resources["autostop"] = autostop
        resources |= {"image_id": self.image, "disk_size": self.disk_gib}
        return {key: value for key, value in resources.items() if value is not None}

    def _checked(self, spec: JobSpec) -> dict[str, Any]:
        """Return the server of a job; refuse what must not be launched, or SkyPilot would refuse.

        Raises:
            StratosError: there is no server, SkyPilot may not use its cloud, or the job would get a
                teacher's key.
        """
        resources = self._resources(spec)
        if resources is None:
            raise StratosError(_no_server(spec))
        if keys := [name for name in self.env if name in spec.withheld]:
            raise StratosError(
                f"executor.env={keys[0]}: it holds the key of a teacher, and no job gets one. "
                "Leave it out."
            )
        if (reason := self.unusable()) is not None:
            raise StratosError(str(reason))
        enabled = enabled_clouds(self._sky)
        if not self._is_elsewhere and spec.offer is not None and spec.offer.cloud not in enabled:
            cloud = spec.offer.cloud
            raise StratosError(
                f"{spec.stage}: it is to run on {server_name(resources)}, and SkyPilot may not use "
                f"{cloud}. It may use: {', '.join(enabled)}. Type sky check {cloud}, which says "
                f"what it lacks, or plan with a cloud that it may use: cloud={enabled[0]}."
            )
        return resources

    def _write(self, spec: JobSpec, resources: dict[str, Any], folder: Path) -> Path:
        """Write what is sent, and return the task that is launched."""
        remove(folder)
        pack(spec, folder / SENT)
        # What the plan may have chosen to serve with, as it is here.
        engines = installed("llamacpp") if spec.stage == "deploy" else []
        setup = self.setup or install(python_version(), (*self.packages, *engines))
        task = task_of(spec, resources, folder / SENT, setup)
        path = folder / "task.yaml"
        write_atomically(path, yaml.safe_dump(task, sort_keys=False).encode())
        return path

    def _follow(self, spec: JobSpec) -> Following:
        """Return what this process knows of a job."""
        name = cluster_name(spec.name)
        if name not in _following:
            folder = folder_of(spec.folder) / self.kind / spec.stage
            cluster = Cluster(name, self._sky, folder, spec.withheld)
            resources = self._resources(spec)
            server = "server" if resources is None else server_name(resources)
            _following[name] = Following(
                spec, cluster, server, self.rents_spot(spec.spot), self._minutes(spec) * 60,
                is_planned=not self._is_elsewhere,
            )  # fmt: skip
        return _following[name]

    def _job(self, following: Following, is_new: bool) -> Job:
        name = following.cluster.name
        return Job(following.spec, name, f"SkyPilot job {name}", following.log, is_new)


def _no_server(spec: JobSpec) -> str:
    """Return that there is no server to rent, and what to type."""
    which = "the plan has no server for it"
    if spec.offer is not None:
        which = f"the plan chose {spec.offer.name}, which is not rented"
    elif spec.stage == "probe":
        which = "there is no plan before the probe"
    return (
        f"{spec.stage}: SkyPilot rents what the plan chose, and {which}. Plan with a cloud, "
        "such as cloud=aws, or type executor.infra=<cloud/region> "
        "executor.accelerators=<GPU:count> executor.usd_per_hour=<dollars>."
    )
