"""How hosted students are: for a terminal, and as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.deploy.fronts import FrontStatus, fronts
from stratos.deploy.hosted_server import (
    Hosted,
    hosted_bundle,
    hosted_here,
    is_looked_after,
    is_starting,
    state_of,
)
from stratos.deploy.hosting import differing
from stratos.deploy.port_owner import is_taken


class State(StrEnum):
    """What a hosted student is at."""

    ANSWERS = "answers"
    SILENT = "does not answer"
    TAKEN = "its port is taken"
    STARTING = "is starting"
    CUT_SHORT = "its start was cut short"
    GIVEN_UP = "given up"
    GONE = "gone"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Standing:
    """How one hosted student is."""

    bundle: str
    state: State
    url: str
    """Where its paths are under, such as http://127.0.0.1:8000/v1."""
    port: int
    engine: str
    format: str
    """Export that is served; "" for the bundle's own weights."""
    at_once: int
    """Answers that it makes at once."""
    pid: int
    """Of the server; 0 before its start."""
    supervisor_pid: int | None
    """Of the process that keeps it running."""
    host: str
    """Machine that it was started on; "" before its start."""
    since: str
    n_restarts: int
    exit_code: int | None
    """Of the server, when it last ended by itself."""
    n_known: int
    """Questions with known answers that it was asked now."""
    n_differing: int | None
    """Answers to them that are not as they should be; None where none came."""
    is_bundle_outdated: bool
    is_bundle_gone: bool
    log: str
    served_by: str
    """Engine, format and answers at once, in words."""
    fronts: tuple[FrontStatus, ...] = ()
    """What stands before it."""

    @property
    def text(self) -> str:
        """Return the lines for a terminal."""
        lines = [self.bundle, f"  {self._is_at()}", f"  {self.served_by}{self._processes()}"]
        lines += [f"  {front.line}" for front in self.fronts if front.line]
        lines.append(f"  log: {self.log}")
        return "\n".join(lines)

    @property
    def json(self) -> str:
        """Return one line of JSON."""
        facts = asdict(self)
        del facts["served_by"], facts["fronts"]
        for front in self.fronts:
            facts |= front.facts
        return json.dumps(facts)

    def _processes(self) -> str:
        if self.state not in (State.ANSWERS, State.SILENT, State.TAKEN):
            return ""
        return f"; process {self.pid}, kept running by process {self.supervisor_pid}"

    def _is_at(self) -> str:
        times = ""
        if self.n_restarts:
            times = f", started again {counted(self.n_restarts, 'time')}"
        if self.state is State.GIVEN_UP:
            return f"given up{times}: it ended each time (last with code {self.exit_code})"
        if self.state is State.ELSEWHERE:
            return f"was started on {self.host}, which cannot be seen from here"
        if self.state is State.GONE:
            return f"gone: the process that kept it running has ended{times}"
        if self.state is State.SILENT:
            return f"does not answer at {self.url}{times}"
        if self.state is State.TAKEN:
            return f"does not answer: another process listens at port {self.port}{times}"
        if self.state is not State.ANSWERS:
            return self.state.value
        if self.is_bundle_gone:
            times += (
                "; its bundle is gone (moved or deleted): it cannot be started again from there"
            )
        elif self.is_bundle_outdated:
            times += "; its bundle was made anew since: stratos serve starts it again"
        other = ""
        if self.n_differing:
            other = f"; {self.n_differing} of {self.n_known} known answers differ"
        return f"answers at {self.url} since {self.since}{times}{other}"


def standings(cache_dir: Path, folders: list[Path]) -> Iterator[Standing]:
    """Yield how students are that were started on this machine and not stopped.

    Args:
        cache_dir: where they are written down.
        folders: runs or bundles; none for all.

    Raises:
        StratosError: a folder is no run and no bundle, and none was hosted from there.
    """
    wanted = [state_of(hosted_bundle(folder, cache_dir), cache_dir) for folder in folders]
    for path, one in hosted_here(cache_dir):
        if not wanted or path in wanted:
            yield standing(path, one)


def standing(path: Path, one: Hosted) -> Standing:
    """Return how a hosted student is, by its file and by asking it."""
    state, n_differing, keeper = _state(path, one), None, one.supervisor
    if state is State.ANSWERS and is_taken(one.port, keeper):
        state = State.TAKEN
    if state is State.ANSWERS:
        try:
            n_differing = differing(one)
        except StratosError:
            state = State.SILENT
    return Standing(
        bundle=one.bundle,
        state=state,
        url=f"{one.url}/v1",
        port=one.port,
        engine=one.engine,
        format=one.format,
        at_once=one.at_once,
        pid=one.server_pid,
        supervisor_pid=None if keeper is None else keeper.pid,
        host="" if keeper is None else keeper.host,
        since=one.since,
        n_restarts=one.n_restarts,
        exit_code=one.exit_code,
        n_known=len(one.asked),
        n_differing=n_differing,
        is_bundle_outdated=one.is_outdated,
        is_bundle_gone=one.is_bundle_gone,
        log=one.log,
        served_by=one.served_by,
        fronts=tuple(front.status(path, one, state is State.ANSWERS) for front in fronts()),
    )


def _state(path: Path, one: Hosted) -> State:
    """Return what a hosted student is at, where it runs without looking whether it answers."""
    if one.is_given_up:
        return State.GIVEN_UP
    if one.supervisor is None:
        is_at_it = is_starting(path) or is_looked_after(path)
        return State.STARTING if is_at_it else State.CUT_SHORT
    if not one.supervisor.is_of_this_machine:
        return State.ELSEWHERE
    return State.ANSWERS if one.runs else State.GONE
