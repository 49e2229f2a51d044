"""Host a bundle on this machine: start a server that stays, ask how it is, stop it."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.deploy.bundle_server import (
    ALONE,
    QUESTION,
    arguments_here,
    ask,
    engine_of,
    environment_of,
)
from stratos.deploy.engines.base import facts_in
from stratos.deploy.exports import exported
from stratos.deploy.hosted_server import (
    FrontProgram,
    FrontStatus,
    Hosted,
    fronts,
    hosted_bundle,
    hosted_here,
    is_looked_after,
    is_starting,
    starting,
    state_of,
)
from stratos.deploy.manifest import MANIFEST, Known, read_known
from stratos.deploy.server import check_free, free_port, is_taken, last_lines
from stratos.records import ServingSetting

START_SHARE = 1.5
"""Of the seconds that an engine may take to start: nobody waits for the command that hosts it."""
_STOP_S = 30.0
_LOOK_S = 0.2
_SURE = 3
"""Looks in a row that find another process at the port."""


def prepare(
    bundle: Path,
    cache_dir: Path,
    *,
    port: int = 0,
    run: ServingSetting | None = None,
    front: FrontProgram | None = None,
) -> tuple[Path, Hosted]:
    """Write down what is to be started; return the state file and what stands in it.

    Args:
        bundle: folder of the model.
        cache_dir: where it is written down.
        port: where it listens; 0 takes a free one.
        run: the engine, and answers at once; None for one request at a time.
        front: what is started in place of the engine; None for the engine itself.

    Raises:
        StratosError: the bundle is served already, the port is taken, the engine is not installed,
            or the bundle holds no export for it.
    """
    state = state_of(bundle, cache_dir)
    before = Hosted.read(state)
    if before is not None and before.runs:
        raise StratosError(
            f"{bundle} is served at {before.url}/v1 since {before.since}. To stop it, type: "
            f"stratos serve stop {shlex.quote(str(bundle))}"
        )
    if is_looked_after(state):
        raise StratosError(
            f"{bundle} is served, and {state} does not say where: it was written to. What runs is "
            f"found with: pgrep -f {state.stem}"
        )
    asked = _can_start(bundle, port, run)
    engine = engine_of(run)
    port = port or free_port()
    state.parent.mkdir(parents=True, exist_ok=True)
    log = state.with_suffix(".log")
    log.write_bytes(b"")
    hosted = Hosted(
        bundle=str(bundle),
        port=port,
        module=engine.module if front is None else front.module,
        arguments=(
            arguments_here(bundle, port, run)
            if front is None
            else [*front.arguments, "--port", str(port)]
        ),
        environment=environment_of(bundle) | engine.environment,
        start_s=START_SHARE * engine.start_s,
        python=engine.python if front is None else sys.executable,
        student="" if front is None else front.student,
        front="" if front is None else front.title,
        format="" if run is None else run.format,
        max_tokens=longest_answer(bundle),
        log=str(log),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        version=digest_of(bundle / MANIFEST),
        asked=asked,
        engine=engine.kind,
        at_once=(run or ALONE).slots,
    )
    hosted.write(state)
    return state, hosted


def _can_start(bundle: Path, port: int, run: ServingSetting | None) -> list[Known]:
    """Return the questions that a server would be asked.

    Raises:
        StratosError: the port is taken, the engine is not installed, or the bundle holds no export
            for it.
    """
    if (why := engine_of(run).unusable()) is not None:
        raise StratosError(str(why))
    asked = known_to(bundle, run)
    if port:
        check_free(port, "--port <number>", "--port 0")
    return asked


def make_room(state: Path, before: Hosted, port: int, run: ServingSetting | None) -> int:
    """Stop a server so that another can be started; return the port that this is to take.

    Nothing is stopped for one that cannot be started.

    Args:
        state: its file.
        before: what runs.
        port: where the other listens; 0 takes the same, which its clients know.
        run: the engine of the other.

    Raises:
        StratosError: the other cannot be started, or this one does not end.
    """
    _can_start(Path(before.bundle), 0 if before.is_at(port) else port, run)
    stop(state, before)
    return port or before.port


def known_to(bundle: Path, run: ServingSetting | None) -> list[Known]:
    """Return the known questions of a bundle, with the answers that its server should give.

    An export may answer otherwise than the evaluation, within its measured loss.

    Raises:
        StratosError: the bundle does not hold the export.
    """
    known = read_known(bundle)
    if run is None or not run.format:
        return list(known)
    texts = exported(bundle, engine_of(run), run.format).known
    return [replace(one, text=text) for one, text in zip(known, texts, strict=False)]


def start(state: Path, start_seconds: float | None = None) -> Hosted:
    """Start what was prepared, to stay when this process ends; return it when it has answered.

    Args:
        state: file of what was prepared.
        start_seconds: longest wait for the first answer; None takes what its engine may need.

    Raises:
        StratosError: nothing answers; then nothing is left running.
    """
    with state.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stratos.deploy.supervisor", str(state)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return _when_ready(state, process, start_seconds)
    except BaseException:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        state.unlink(missing_ok=True)
        raise


def keep_hosted(
    bundle: Path, cache_dir: Path, *, port: int = 0, run: ServingSetting | None = None
) -> tuple[Hosted, bool]:
    """Host a bundle, in place of an earlier making of it; return it, and whether it ran before.

    One that runs with another engine or format, or at another port, is started again.

    Args:
        bundle: folder of the model.
        cache_dir: where it is written down.
        port: where it listens; 0 takes that of one that runs, else a free one.
        run: the engine, and answers at once; None for one request at a time.

    Raises:
        StratosError: the port is taken, or nothing answers.
    """
    state = state_of(bundle, cache_dir)
    with starting(bundle, cache_dir):
        before = Hosted.read(state)
        if before is not None and before.runs:
            if before.serves(run) and before.is_at(port) and not before.is_outdated:
                return before, True
            port = make_room(state, before, port, run)
        state, _ = prepare(bundle, cache_dir, port=port, run=run)
        return start(state), False


def stop(state: Path, hosted: Hosted) -> bool:
    """Stop a server; return whether it ran.

    Raises:
        StratosError: it does not end.
    """
    one = hosted.supervisor
    if one is None:
        return _stop_start(state, hosted)
    if one.is_dead():
        state.unlink(missing_ok=True)
        return False
    if not one.is_of_this_machine:
        raise StratosError(
            f"{hosted.bundle} was started on {one.host}, and this is {socket.gethostname()}: stop "
            f"it there. If that machine is gone, delete {state}"
        )
    if not one.is_told:
        raise StratosError(
            f"{state} does not say when process {one.pid} was started: that may be any process by "
            f"now, and none is ended. Look what it is with: ps -f {one.pid}; end it with: kill "
            f"{one.pid}; then delete {state}"
        )
    with suppress(ProcessLookupError):
        os.kill(one.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while not one.is_dead():
        if time.monotonic() > deadline:
            raise StratosError(f"The server of {hosted.bundle} does not end: kill -9 {one.pid}")
        time.sleep(_LOOK_S)
    state.unlink(missing_ok=True)
    return True


def _stop_start(state: Path, hosted: Hosted) -> bool:
    """End a start that has not got as far as a server; return whether there was one.

    What starts it ends where its file is gone; what has written to the file meanwhile is ended.

    Raises:
        StratosError: it does not end.
    """
    ran, deadline = False, time.monotonic() + 2 * _STOP_S
    while is_starting(state) or is_looked_after(state):
        ran = True
        found = Hosted.read(state)
        if found is not None and found.supervisor is not None:
            return stop(state, found)
        state.unlink(missing_ok=True)
        if time.monotonic() > deadline:
            raise StratosError(f"The start of {hosted.bundle} does not end: pgrep -f {state.stem}")
        time.sleep(_LOOK_S)
    state.unlink(missing_ok=True)
    return ran


def differing(hosted: Hosted) -> int:
    """Ask the known questions; return how many answers differ from those that it should give.

    Raises:
        StratosError: the server does not answer.
    """
    try:
        if not hosted.asked:
            ask(hosted.port, QUESTION, 1, hosted.student)
        return sum(
            ask(hosted.port, one.messages, hosted.max_tokens, hosted.student) != one.text
            for one in hosted.asked
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StratosError(
            f"{hosted.url} does not answer ({error or type(error).__name__}). The end of "
            f"{hosted.log}:\n{last_lines(Path(hosted.log))}"
        ) from error


def longest_answer(bundle: Path) -> int | None:
    """Return the most tokens that a bundle's answers had in the evaluation; None if unsaid."""
    longest = facts_in(bundle, "generation_config.json").get("max_new_tokens")
    return int(longest) if longest else None


def _when_ready(
    state: Path, process: subprocess.Popen[bytes], start_seconds: float | None
) -> Hosted:
    """Wait for an answer: a server may call itself healthy and end at its first question."""
    began, n_taken = time.monotonic(), 0
    while True:
        exit_code = process.poll()  # before the file, which a stop removes
        hosted = Hosted.read(state)
        if exit_code == 0 or (hosted is None and exit_code is None):
            raise StratosError("It was stopped while it started.")
        if hosted is None or hosted.is_given_up or exit_code is not None:
            log = state.with_suffix(".log")
            raise StratosError(
                f"The server ended before it answered. The end of {log}:\n{last_lines(log)}"
            )
        if hosted.supervisor is not None and hosted.server_pid:
            # One that ends may be seen once with its port, and no more among its parent's children.
            n_taken = n_taken + 1 if is_taken(hosted.port, hosted.supervisor) else 0
            if n_taken >= _SURE:
                raise StratosError(
                    f"Another process listens at port {hosted.port}: the server cannot. Choose "
                    "another with --port <number>, or take any free one with --port 0."
                )
            if not n_taken and _has_answered(hosted):
                return hosted
        most_s = start_seconds or hosted.start_s
        if time.monotonic() > began + most_s:
            raise StratosError(
                f"The server did not answer within {most_s:g} seconds. The end of "
                f"{hosted.log}:\n{last_lines(Path(hosted.log))}\n"
                "Give the command again when the machine is less busy, or --start-seconds <more>."
            )
        time.sleep(_LOOK_S)


def _has_answered(hosted: Hosted) -> bool:
    """Ask a question; return whether the server has answered, and not another at its port."""
    messages = hosted.asked[0].messages if hosted.asked else QUESTION
    with suppress(OSError, http.client.HTTPException, ValueError, KeyError, IndexError):
        ask(hosted.port, messages, hosted.max_tokens if hosted.asked else 1, hosted.student)
        return not is_taken(hosted.port, hosted.supervisor)
    return False


# How hosted students are: for a terminal, and as JSON for scripts.


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

    hosted: Hosted
    state: State
    n_differing: int | None = None
    """Known answers that are not as they should be; None where none came."""
    fronts: tuple[FrontStatus, ...] = ()
    """What stands before it."""

    @property
    def text(self) -> str:
        """Return the lines for a terminal."""
        hosted = self.hosted
        lines = [hosted.bundle, f"  {self._is_at()}", f"  {hosted.served_by}{self._processes()}"]
        lines += [f"  {front.line}" for front in self.fronts if front.line]
        lines.append(f"  log: {hosted.log}")
        return "\n".join(lines)

    @property
    def json(self) -> str:
        """Return one line of JSON."""
        hosted, keeper = self.hosted, self.hosted.supervisor
        facts = {
            "bundle": hosted.bundle,
            "state": self.state,
            "url": f"{hosted.url}/v1",
            "port": hosted.port,
            "engine": hosted.engine,
            "format": hosted.format,
            "at_once": hosted.at_once,
            "pid": hosted.server_pid,
            "supervisor_pid": None if keeper is None else keeper.pid,
            "host": "" if keeper is None else keeper.host,
            "since": hosted.since,
            "n_restarts": hosted.n_restarts,
            "exit_code": hosted.exit_code,
            "n_known": len(hosted.asked),
            "n_differing": self.n_differing,
            "is_bundle_outdated": hosted.is_outdated,
            "is_bundle_gone": hosted.is_bundle_gone,
            "log": hosted.log,
        }
        for front in self.fronts:
            facts |= front.facts
        return json.dumps(facts)

    def _processes(self) -> str:
        if self.state not in (State.ANSWERS, State.SILENT, State.TAKEN):
            return ""
        keeper = self.hosted.supervisor
        keeper_pid = None if keeper is None else keeper.pid
        return f"; process {self.hosted.server_pid}, kept running by process {keeper_pid}"

    def _is_at(self) -> str:
        hosted, times = self.hosted, ""
        url = f"{hosted.url}/v1"
        if hosted.n_restarts:
            times = f", started again {counted(hosted.n_restarts, 'time')}"
        if self.state is State.GIVEN_UP:
            return f"given up{times}: it ended each time (last with code {hosted.exit_code})"
        if self.state is State.ELSEWHERE:
            host = "" if hosted.supervisor is None else hosted.supervisor.host
            return f"was started on {host}, which cannot be seen from here"
        if self.state is State.GONE:
            return f"gone: the process that kept it running has ended{times}"
        if self.state is State.SILENT:
            return f"does not answer at {url}{times}"
        if self.state is State.TAKEN:
            return f"does not answer: another process listens at port {hosted.port}{times}"
        if self.state is not State.ANSWERS:
            return self.state.value
        if hosted.is_bundle_gone:
            times += (
                "; its bundle is gone (moved or deleted): it cannot be started again from there"
            )
        elif hosted.is_outdated:
            times += "; its bundle was made anew since: stratos serve starts it again"
        other = ""
        if self.n_differing:
            other = f"; {self.n_differing} of {len(hosted.asked)} known answers differ"
        return f"answers at {url} since {hosted.since}{times}{other}"


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


def standing(path: Path, hosted: Hosted) -> Standing:
    """Return how a hosted student is, by its file and by asking it."""
    state, n_differing = _state(path, hosted), None
    if state is State.ANSWERS and is_taken(hosted.port, hosted.supervisor):
        state = State.TAKEN
    if state is State.ANSWERS:
        try:
            n_differing = differing(hosted)
        except StratosError:
            state = State.SILENT
    answers = state is State.ANSWERS
    statuses = tuple(front.status(path, hosted, answers) for front in fronts())
    return Standing(hosted, state, n_differing, statuses)


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
