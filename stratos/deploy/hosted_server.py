"""What is hosted on this machine: one file for each address, below the cache folder.

It says what was started, where it listens, and which process looks after it (`supervisor`).
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.digest import digest_of
from stratos.core.errors import StratosError, did_you_mean
from stratos.core.extensions import extensions, load
from stratos.core.formats import counted, listed
from stratos.core.output import why_unwritten
from stratos.core.process import Process, is_locked, locked
from stratos.deploy.bundle_server import engine_of
from stratos.deploy.manifest import MANIFEST, Known, bundle_in, read_known
from stratos.deploy.server import HOST
from stratos.records import ServingSetting, from_json

CACHE = "STRATOS_CACHE"
"""Variable with the cache folder of commands that have no config."""
ANY_HOST = "0.0.0.0"
"""Every address of this machine."""
MOST_RESTARTS = 10
_LONGEST_EXAMPLE = 1000
"""Characters of a request that a terminal shows."""


def cache_of_user() -> Path:
    """Return the cache folder of commands that have no config."""
    return Path(os.environ.get(CACHE) or "~/.cache/stratos").expanduser()


@contextmanager
def disk_of_served(cache_dir: Path) -> Iterator[None]:
    """Turn what the system refuses to write of what is hosted into a message.

    Raises:
        StratosError: it refuses something.
    """
    try:
        yield
    except BrokenPipeError:  # of whoever reads along
        raise
    except OSError as error:
        why = why_unwritten(error, cache_dir / "served", f"{CACHE}=<folder>")
        raise StratosError(why) from error


@dataclass(frozen=True)
class Hosted:
    """A server that was started to stay."""

    bundle: str
    name: str
    """Of the model, as clients know it, whatever bundle and engine answer."""
    port: int
    """Of its address, which stays."""
    engine_port: int
    """Where the engine listens, on this machine alone."""
    module: str
    """The engine's program, as for `python -m`."""
    arguments: list[str]
    environment: dict[str, str]
    log: str
    since: str
    """When it was started."""
    version: str
    """Tells one making of the bundle from another: the SHA-256 of its manifest."""
    engine: str
    """Name of the engine."""
    at_once: int
    """Answers that it makes at once."""
    host: str = HOST
    """Where its address listens."""
    key_file: str = ""
    """File with the key that clients send; "" where none is asked for."""
    supervisor: Process | None = None
    """What keeps it running."""
    max_tokens: int | None = None
    """Longest answer, as the evaluation had it."""
    server_pid: int = 0
    n_restarts: int = 0
    exit_code: int | None = None
    """Of the server, when it last ended by itself."""
    restarts: list[str] = field(default_factory=list)
    """When and why it was started again, the last `MOST_RESTARTS` of them."""
    is_approved: bool = False
    """Of what is to replace a student: it has passed its checks."""
    is_given_up: bool = False
    """It ended at once too often."""
    start_s: float = 300.0
    """Seconds from its start to its first answer, at most."""
    python: str = sys.executable
    """Interpreter that has the module."""
    format: str = ""
    """Export that is served; "" for the bundle's own weights."""
    known: list[Known] = field(default_factory=list)
    """Questions that tell whether it answers as it should."""
    student: str = ""
    """Name under which the student alone answers, where a program stands before it; else ""."""
    front: str = ""
    """What that program is, in words; "" where the engine itself is what answers."""

    @property
    def url(self) -> str:
        """Address that its paths are under."""
        return f"http://{HOST if self.host == ANY_HOST else self.host}:{self.port}"

    @property
    def key(self) -> str:
        """The key that clients send; "" where none is asked for."""
        return Path(self.key_file).read_text().strip() if self.key_file else ""

    @property
    def served_by(self) -> str:
        """Engine, format and answers at once, in words."""
        engine = " ".join(filter(None, (self.engine, self.format)))
        engine += f", {counted(self.at_once, 'answer')} at once"
        return f"{engine}, {self.front}" if self.front else engine

    @property
    def setting(self) -> ServingSetting:
        """How it is run."""
        return ServingSetting(self.engine, slots=self.at_once, format=self.format)

    @property
    def example(self) -> str:
        """A request that can be typed, as JSON: the first known question that it answers right."""
        right = (known for known in self.known if known.is_right)
        first = next(right, self.known[0] if self.known else None)
        body = {
            "model": self.name,
            "max_tokens": (first.max_tokens if first else self.max_tokens) or 256,
            "temperature": 0,
            "messages": first.messages if first else [{"role": "user", "content": "…"}],
            **((first and first.request) or {}),
        }
        return json.dumps(body, ensure_ascii=False)

    @property
    def example_data(self) -> str:
        """The example as curl's `-d` takes it in a shell; a long one is written beside the log."""
        if len(self.example) <= _LONGEST_EXAMPLE:
            return shlex.quote(self.example)
        path = Path(self.log).with_suffix(".ask")
        write_atomically(path, self.example.encode())
        return shlex.quote(f"@{path}")

    @property
    def is_outdated(self) -> bool:
        """Whether its bundle was made anew since it was loaded."""
        return digest_of(Path(self.bundle) / MANIFEST) != self.version

    @property
    def is_bundle_gone(self) -> bool:
        """Whether its bundle was moved or deleted, so that it could not be started again."""
        return not Path(self.bundle).is_dir()

    @property
    def n_as_evaluated(self) -> int:
        """Of the answers that it should give, how many are those of the evaluation."""
        evaluated = {str(known.messages): known.text for known in read_known(Path(self.bundle))}
        return sum(evaluated.get(str(known.messages)) == known.text for known in self.known)

    @property
    def runs(self) -> bool:
        """Whether somebody of this machine looks after it."""
        return self.supervisor is not None and self.supervisor.is_alive_here()

    def serves(self, run: ServingSetting | None) -> bool:
        """Return whether it is of the engine and the export that a setting names."""
        form = "" if run is None else run.format
        engine = engine_of(run)
        is_same = engine.kind == self.engine if self.front else engine.module == self.module
        return is_same and (not form or form == self.format)

    def is_at(self, port: int) -> bool:
        """Return whether it listens at a port; 0 is any."""
        return port in (0, self.port)

    @staticmethod
    def read(state: Path) -> Hosted | None:
        """Return what a state file describes; None where there is none."""
        with suppress(OSError, msgspec.DecodeError):
            return from_json(state.read_bytes(), Hosted)
        return None

    def write(self, state: Path) -> None:
        """Write it down."""
        write_atomically(state, msgspec.json.format(msgspec.json.encode(self), indent=1))


@contextmanager
def starting(bundle: Path, cache_dir: Path) -> Iterator[None]:
    """Let one process at a time start a bundle's server.

    Raises:
        StratosError: another one is at it.
    """
    try:
        with locked(_start_of(state_of(bundle, cache_dir))):
            yield
    except BlockingIOError:
        raise StratosError(
            f"{bundle}: another command is starting its server. To see it, type: stratos "
            f"serve status {shlex.quote(str(bundle))}"
        ) from None


def is_looked_after(state: Path) -> bool:
    """Return whether a process keeps a server running, whatever the state file says."""
    return is_locked(supervised(state))


def is_starting(state: Path) -> bool:
    """Return whether a command is starting a server."""
    return is_locked(_start_of(state))


def _start_of(state: Path) -> Path:
    return state.with_suffix(".starting")


def supervised(state: Path) -> Path:
    """Return the file that is locked for as long as a server is kept running."""
    return state.with_suffix(".lock")


def hosted_bundle(folder: Path, cache_dir: Path) -> Path:
    """Return the bundle that a folder or a name means, also where it is hosted and gone by now.

    Raises:
        StratosError: it is no bundle, and none was hosted from there or by that name.
    """
    try:
        return bundle_in(folder)
    except StratosError as error:
        paths = (folder.resolve(), folder.resolve() / "bundle")
        served = [hosted for _, hosted in hosted_here(cache_dir)]
        for hosted in served:
            if hosted.name == str(folder) or Path(hosted.bundle) in paths:
                return Path(hosted.bundle)
        names = [hosted.name for hosted in served]
        if folder.exists():
            raise StratosError(f"{error}{did_you_mean(str(folder), names)}") from error
        raise StratosError(
            f"{folder}: there is no such folder, and no student of that name is served."
            + (did_you_mean(str(folder), names) or (f" Served: {listed(names)}." if names else ""))
        ) from error


def state_of(bundle: Path, cache_dir: Path) -> Path:
    """Return where it is written down how a bundle is served.

    It may have replaced another one, whose address and file it has then.
    """
    for state in sorted((cache_dir / "served").glob("*.json")):
        if (hosted := Hosted.read(state)) is not None and hosted.bundle == str(bundle):
            return state
    text = str(bundle)
    while True:
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        state = cache_dir / "served" / f"{name}.json"
        if Hosted.read(state) is None:
            return state
        text += "+"  # the file is of one that has replaced it


def next_of(state: Path) -> Path:
    """Return the file of what is to replace a hosted student."""
    return state.with_suffix(".next")


def hosted_here(cache_dir: Path) -> Iterator[tuple[Path, Hosted]]:
    """Yield all that was started on this machine and not stopped, with its state file.

    Machines may share a cache folder: what another one hosts can neither be seen nor stopped here.
    """
    for state in sorted((cache_dir / "served").glob("*.json")):
        hosted = Hosted.read(state)
        if hosted is not None and (
            hosted.supervisor is None or hosted.supervisor.is_of_this_machine
        ):
            yield state, hosted


# What rooms of contrib put before hosted students, such as a teacher or an access control.
#
# `stratos serve` asks every front there is; without any it hosts the student alone.


@dataclass(frozen=True)
class FrontProgram:
    """A program that is started in place of the engine, and starts the engine itself."""

    module: str
    """As for `python -m`."""
    arguments: list[str]
    """Beside its port."""
    student: str
    """Name under which it has the student alone answer."""
    title: str
    """What it is, behind the engine's name: "with its teacher behind it"."""
    run: ServingSetting
    """How it runs the engine."""


@dataclass(frozen=True)
class FrontStatus:
    """How a front of a hosted student is."""

    line: str
    """For a terminal; "" where there is none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For scripts: keys of the status' JSON object."""


class ServerFront:
    """A front, as `stratos serve` knows it; by default it does nothing."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of a start."""

    def keep_options(self, args: argparse.Namespace, before: Hosted) -> None:
        """Set the options that are not typed to those of a server that is started again.

        Args:
            args: the options of the start.
            before: the server that runs.
        """

    def program(
        self, args: argparse.Namespace, bundle: Path, cache_dir: Path, before: Hosted | None
    ) -> FrontProgram | None:
        """Return what is started in place of the engine; None where the options ask for nothing.

        Args:
            args: the options of the start.
            bundle: that is to be served.
            cache_dir: where it is written down how it is served.
            before: the server that runs.

        Raises:
            StratosError: the options cannot be met.
        """
        return None

    def differing(self, before: Hosted, args: argparse.Namespace) -> list[str]:
        """Return which options of a start differ from what runs, as they are typed."""
        return []

    def compare(self, bundle: Path, before: Path) -> str:
        """Compare a bundle with the one that it is to replace; return what there is to say.

        Raises:
            StratosError: it is worse, or that cannot be told.
        """
        return ""

    def status(self, state: Path, hosted: Hosted, answers: bool) -> FrontStatus:
        """Return how it is.

        Args:
            state: file of the hosted student.
            hosted: what stands in it.
            answers: whether the student answers.
        """
        return FrontStatus("")


@functools.cache
def fronts() -> tuple[ServerFront, ...]:
    """Return the fronts of all rooms."""
    return tuple(load(room.front)() for room in extensions() if room.front)
