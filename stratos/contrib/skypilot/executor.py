"""Stages as jobs on servers that SkyPilot rents: one cluster of its own for each, ended with it.

The server shares no file system with this machine. It is sent the run folder, and this version of
Stratos. What the stage says and writes is brought back while it runs, so that a server that is
taken back costs what was done since the last checkpoint. The record comes last, when the server is
gone.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from msgspec import Meta
from typing_extensions import override

from stratos.contrib.skypilot.cluster import Cluster, last_words, sky
from stratos.contrib.skypilot.follower import Following
from stratos.contrib.skypilot.task import (
    CACHE,
    PINS,
    RUN,
    SENT,
    WHEEL,
    Server,
    cluster_name,
    install,
    task_of,
)
from stratos.core import extras
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


class NoSky(Reason):
    """SkyPilot's program is nowhere."""

    program: str

    def __str__(self) -> str:
        return (
            f"executor=skypilot: there is no program {self.program}. Type: "
            f"{extras.install('skypilot', 'skypilot[aws]')} (or another cloud), or name that of "
            "another environment with executor.program=<path of sky>."
        )


class NoProgram(Reason):
    """A program that files are sent with is nowhere."""

    program: str

    says = "executor=skypilot: there is no {program} on the PATH. Install it."


class BrokenSky(Reason):
    """SkyPilot's program does not say its version."""

    path: str
    error: str
    """In its own words."""

    says = (
        "executor=skypilot: {path} --version fails ({error}). Type: pip install "
        "'skypilot[aws]' (or another cloud)."
    )


class OldSky(Reason):
    """SkyPilot lacks what is asked of it."""

    version: str
    oldest: str

    says = (
        "executor=skypilot: SkyPilot {version} is too old. Type: pip install 'skypilot>={oldest}'"
    )


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


OLDEST = (0, 14)
"""Oldest version of SkyPilot that has all that is asked of it."""


def program(name: str) -> str | None:
    """Return where SkyPilot's program is: on the PATH, or beside this Python; None if nowhere."""
    beside = Path(sys.executable).parent / name
    return shutil.which(name) or (str(beside) if beside.is_file() else None)


def why_not(name: str) -> Reason | None:
    """Return why nothing can be launched, with what to type; None if it can."""
    path = program(name)
    if path is None:
        return NoSky(name)
    for tool in ("ssh", "rsync"):
        if shutil.which(tool) is None:
            return NoProgram(tool)
    return _why_not(path)


@functools.cache
def _why_not(path: str) -> Reason | None:
    answer = sky(path, "--version")
    version = re.search(r"(\d+)\.(\d+)[.\w]*", answer.stdout)
    if answer.returncode or version is None:
        return BrokenSky(path, last_words(answer.stderr))
    if (int(version[1]), int(version[2])) < OLDEST:
        return OldSky(version[0], ".".join(map(str, OLDEST)))
    if not enabled_clouds(path):
        return NoCloud()
    return None


@functools.cache
def enabled_clouds(path: str) -> tuple[str, ...]:
    """Return the clouds that SkyPilot may rent servers of, in small letters.

    Args:
        path: of SkyPilot's program.
    """
    answer = sky(path, "check", "--output", "json")
    _, start, rest = f"\n{answer.stdout}".partition("\n{")  # behind what else it says
    try:
        listing = json.loads(f"{{{rest}") if start else {}
    except ValueError:
        listing = {}
    names = {cloud.lower() for clouds in listing.values()
             for cloud, can in clouds.items() if "compute" in can}  # fmt: skip
    return tuple(sorted(names))


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
    (into / WHEEL).mkdir(parents=True)
    write_wheel(into / WHEEL)
    (into / CACHE).mkdir()
    for name, data in spec.cache.items():
        (into / CACHE / name).write_bytes(data)
    (into / PINS).write_text("".join(f"{pin}\n" for pin in pins()))
    with tarfile.open(into / RUN, "w", format=tarfile.PAX_FORMAT) as tar:
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
    """Whether to rent spot servers; null does what the plan says."""
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
        elsewhere = (self.infra, self.instance_type, self.accelerators)
        if any(elsewhere) and self.usd_per_hour is None:
            return NoPrice()
        return why_not(self.program)

    def submit(self, spec: JobSpec) -> Job:
        """Begin to launch the server of a job, or return the job of its name that is there."""
        _following.pop(cluster_name(spec.name), None)
        following = self._follow(spec)
        if following.is_there():
            return self._job(following, is_new=False)
        server = self._server(spec)
        self._check(spec, server)
        following.down()  # what an earlier command may have left of it
        task = self._write(spec, server, following.cluster.folder)
        following.launch(task, [name for name in self.env if name in os.environ])
        return self._job(following, is_new=True)

    def status(self, job: Job) -> Status:
        """Return how a job stands; changes no file."""
        return self._follow(job.spec).status()

    def events(self, job: Job) -> Iterator[tuple[str, list[Any], bool]]:
        """Bring back what a job has said and written since the last call; yield what it said."""
        self._follow(job.spec).bring(job.may_copy)
        yield from super().events(job)

    def cancel(self, spec: JobSpec) -> None:
        """Have the stage save and end, bring back what it has done, and end the server."""
        following = self._follow(spec)
        following.tell_others()
        following.save()
        following.down()
        remove(following.cluster.folder)
        _following.pop(following.cluster.name, None)

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
        elsewhere = self._elsewhere(spot=False)
        cloud = elsewhere.cloud if elsewhere is not None else "" if offer is None else offer.cloud
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
        lost_usd = spec.usd_per_hour * (_LOST_SPOT if self._is_spot(spec) else _LOST)
        if not (copy_usd and lost_usd):
            return _LEAST_MINUTES
        return max(_LEAST_MINUTES, 60 * math.sqrt(2 * copy_usd / lost_usd))

    def _is_spot(self, spec: JobSpec) -> bool:
        return spec.spot if self.spot is None else self.spot

    def _elsewhere(self, spot: bool) -> Server | None:
        """Return the server that the settings ask for; None where it is the plan's."""
        if not any((self.infra, self.instance_type, self.accelerators)):
            return None
        return Server(self.infra or "", self.instance_type, self.accelerators, spot)

    def _server(self, spec: JobSpec) -> Server:
        """Return the server of a job.

        Raises:
            StratosError: the plan has none that SkyPilot could rent.
        """
        spot = self._is_spot(spec)
        server = self._elsewhere(spot) or _planned(spec, spot)
        if server is not None:
            return server
        which = "the plan has no server for it"
        if spec.offer is not None:
            which = f"the plan chose {spec.offer.name}, which is not rented"
        elif spec.stage == "probe":
            which = "there is no plan before the probe"
        raise StratosError(
            f"{spec.stage}: SkyPilot rents what the plan chose, and {which}. Plan with a cloud, "
            "such as cloud=aws, or type executor.infra=<cloud/region> "
            "executor.accelerators=<GPU:count> executor.usd_per_hour=<dollars>."
        )

    def _check(self, spec: JobSpec, server: Server) -> None:
        """Refuse what must not be launched, or what SkyPilot would refuse later.

        Raises:
            StratosError: SkyPilot may not use the cloud, or the job would get a teacher's key.
        """
        if keys := [name for name in self.env if name in spec.withheld]:
            raise StratosError(
                f"executor.env={keys[0]}: it holds the key of a teacher, and no job gets one. "
                "Leave it out."
            )
        if (reason := self.unusable()) is not None:
            raise StratosError(str(reason))
        if self._elsewhere(server.spot) is not None:
            return  # SkyPilot has several words for an infra
        enabled = enabled_clouds(program(self.program) or self.program)
        if server.cloud not in enabled:
            raise StratosError(
                f"{spec.stage}: it is to run on {server.name}, and SkyPilot may not use "
                f"{server.cloud}. It may use: {', '.join(enabled)}. Type sky check {server.cloud}, "
                f"which says what it lacks, or plan with a cloud that it may use: "
                f"cloud={enabled[0]}."
            )

    def _write(self, spec: JobSpec, server: Server, folder: Path) -> Path:
        """Write what is sent, and return the task that is launched."""
        remove(folder)
        pack(spec, folder / SENT)
        # What the plan may have chosen to serve with, as it is here.
        engines = installed("llamacpp") if spec.stage == "deploy" else []
        setup = self.setup or install(python_version(), (*self.packages, *engines))
        task = task_of(
            spec, server, sent=folder / SENT, setup=setup, idle_minutes=self.idle_minutes,
            image=self.image, disk_gib=self.disk_gib,
            # The ledger counts that price, whatever server SkyPilot takes.
            most_usd_per_hour=None if server.instance_type else self.usd_per_hour or None,
        )  # fmt: skip
        path = folder / "task.yaml"
        write_atomically(path, yaml.safe_dump(task, sort_keys=False).encode())
        return path

    def _follow(self, spec: JobSpec) -> Following:
        """Return what this process knows of a job."""
        name = cluster_name(spec.name)
        if name not in _following:
            folder = folder_of(spec.folder) / self.kind / spec.stage
            path = program(self.program) or self.program
            cluster = Cluster(name, path, folder, spec.withheld)
            spot = self._is_spot(spec)
            elsewhere = self._elsewhere(spot)
            server = elsewhere or _planned(spec, spot)
            _following[name] = Following(
                spec, cluster, "server" if server is None else server.name, spot,
                self._minutes(spec) * 60, is_planned=elsewhere is None,
            )  # fmt: skip
        return _following[name]

    def _job(self, following: Following, is_new: bool) -> Job:
        return Job(following.spec, following.cluster.name, following.place, following.log, is_new)


def _planned(spec: JobSpec, spot: bool) -> Server | None:
    """Return the server that the plan chose; None where that is none to rent."""
    offer = spec.offer
    if offer is None or not offer.is_rented:
        return None
    card = None
    if offer.accelerator is not None:
        card = f"{offer.accelerator}:{offer.accelerator_count}"
    return Server(f"{offer.cloud}/{offer.region}", offer.instance_type, card, spot)
