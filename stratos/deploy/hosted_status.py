"""How hosted students are: for a terminal, and as JSON for scripts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.deploy.engines.http_api import LOOPBACK
from stratos.deploy.hosted_server import (
    ANY_HOST,
    FrontStatus,
    Hosted,
    fronts,
    hosted_bundle,
    hosted_here,
    is_looked_after,
    is_starting,
    state_of,
)
from stratos.deploy.hosting import differing
from stratos.deploy.server import READY, answers


class State(StrEnum):
    """What a hosted student is at."""

    ANSWERS = "answers"
    SILENT = "does not answer"
    STARTING = "is starting"
    GIVEN_UP = "given up"
    GONE = "gone"


@dataclass(frozen=True)
class Standing:
    """How one hosted student is."""

    hosted: Hosted
    state: State
    n_differing: int | None = None
    """Known answers that are not as they should be; None where none came."""
    fronts: tuple[FrontStatus, ...] = ()
    """What stands before it."""

    @property
    def text(self) -> str:
        """Return the lines for a terminal."""
        hosted, keeper = self.hosted, self.hosted.supervisor
        processes = ""
        if keeper is not None and self.state in (State.ANSWERS, State.SILENT):
            processes = f"; process {hosted.server_pid}, kept running by process {keeper.pid}"
        lines = [hosted.bundle, f"  {self._state()}", f"  {hosted.served_by}{processes}"]
        lines += [f"  {front.line}" for front in self.fronts if front.line]
        lines += [f"  restart: {restart}" for restart in hosted.restarts]
        return "\n".join([*lines, f"  log: {hosted.log}"])

    def _state(self) -> str:
        hosted, text = self.hosted, self.state.value
        if self.state in (State.ANSWERS, State.SILENT):
            every = ", at every address of this machine" if hosted.host == ANY_HOST else ""
            key = ", with a key" if hosted.key_file else ""
            text += f" at {hosted.url}/v1{every}{key}, as {hosted.name} since {hosted.since}"
        if self.state is State.GONE:
            text += ": the process that kept it running has ended. Again: stratos serve start "
            text += shlex.quote(hosted.name)
        if hosted.n_restarts:
            text += f", started again {counted(hosted.n_restarts, 'time')}"
            text += f" (it ended last with code {hosted.exit_code})"
        if self.state is State.ANSWERS:
            if hosted.is_bundle_gone:
                text += "; its bundle is gone (moved or deleted): it cannot be started again"
            elif hosted.is_outdated:
                text += "; its bundle was made anew since: stratos serve starts it again"
        if self.n_differing:
            text += f"; {self.n_differing} of {len(hosted.known)} known answers differ"
        return text

    @property
    def json(self) -> str:
        """Return one line of JSON."""
        hosted, keeper = self.hosted, self.hosted.supervisor
        names = ("bundle", "name", "host", "port", "engine", "format", "at_once", "since", "log")
        of_ends = ("n_restarts", "exit_code", "restarts")
        facts = {name: getattr(hosted, name) for name in (*names, *of_ends)}
        facts |= {
            "state": self.state,
            "url": f"{hosted.url}/v1",
            "pid": hosted.server_pid,
            "supervisor_pid": None if keeper is None else keeper.pid,
            "n_known": len(hosted.known),
            "n_differing": self.n_differing,
            "is_bundle_outdated": hosted.is_outdated,
            "is_bundle_gone": hosted.is_bundle_gone,
        }
        for front in self.fronts:
            facts |= front.facts
        return json.dumps(facts)


def standings(cache_dir: Path, folders: list[Path]) -> Iterator[Standing]:
    """Yield how students are that were started on this machine and not stopped.

    Args:
        cache_dir: where they are written down.
        folders: runs or bundles; none for all.

    Raises:
        StratosError: a folder is no run and no bundle, and none was hosted from there.
    """
    states = [state_of(hosted_bundle(folder, cache_dir), cache_dir) for folder in folders]
    for path, hosted in hosted_here(cache_dir):
        if not states or path in states:
            yield standing(path, hosted)


def is_reached(hosted: Hosted) -> bool:
    """Return whether an address passes requests on; one of another device counts as such."""
    is_here = hosted.host in (*LOOPBACK, ANY_HOST)
    return not is_here or answers(hosted.port, READY)


def standing(path: Path, hosted: Hosted) -> Standing:
    """Return how a hosted student is, by its file and by asking it."""
    state, n_differing = State.GONE, None
    if hosted.is_given_up:
        state = State.GIVEN_UP
    elif hosted.runs:
        state = State.SILENT
        with suppress(StratosError):
            n_differing = differing(hosted)
            state = State.ANSWERS if is_reached(hosted) else State.SILENT
    elif hosted.supervisor is None and (is_starting(path) or is_looked_after(path)):
        state = State.STARTING
    answers = state is State.ANSWERS
    statuses = tuple(front.status(path, hosted, answers) for front in fronts())
    return Standing(hosted, state, n_differing, statuses)
