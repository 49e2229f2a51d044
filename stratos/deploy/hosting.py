"""Host a bundle on this machine: start a server that stays, ask how it is, stop it."""

from __future__ import annotations

import json
import os
import shlex
import signal
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
    longest_answer,
)
from stratos.deploy.engines.known import engine_named, import_engines_of_run
from stratos.deploy.engines.predictor import server_of, setting_of
from stratos.deploy.exports import exported, read_exports
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
from stratos.deploy.server import ServeError, check_free, free_port, last_lines
from stratos.records import ServingSetting

START_SHARE = 1.5
"""Of the seconds that an engine may take to start: nobody waits for the command that hosts it."""
_STOP_S = 30.0
_LOOK_S = 0.2


def setting_here(bundle: Path, at_once: int | None = None) -> tuple[ServingSetting | None, str]:
    """Return how a bundle is served on this machine where nobody says otherwise, as its run did.

    Args:
        bundle: folder of the student.
        at_once: answers at once; None takes the engine's own number.

    Returns:
        The setting, None for one request at a time by transformers; and, in words, why it is
        another than that of the run, or "".
    """
    import_engines_of_run(bundle.parent)
    if (own := server_of(bundle)) is not None:
        return own.setting(at_once), ""
    exports, text = read_exports(bundle), ""
    if exports is not None and exports.served:
        engine = engine_named(exports.engine)
        if (why := engine.unusable()) is None:
            return replace(engine.setting(at_once), format=exports.served), ""
        text = f"The run served it as {exports.served}. {why}\nUntil then transformers serves it."
    run = engine_of(None).setting(at_once) if at_once else None
    return setting_of(bundle, run), text


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
    if is_looked_after(state) or (before is not None and before.runs):
        where = f" at {before.url}/v1 since {before.since}" if before is not None else ""
        raise StratosError(
            f"{bundle} is served{where}. To stop it, type: "
            f"stratos serve stop {shlex.quote(str(bundle))}"
        )
    known = _can_start(bundle, port, run)
    engine = engine_of(run)
    port = port or free_port()
    state.parent.mkdir(parents=True, exist_ok=True)
    log = state.with_suffix(".log")
    log.write_bytes(b"")
    hosted = Hosted(
        bundle=str(bundle),
        port=port,
        module=engine.module,
        arguments=arguments_here(bundle, port, run),
        environment=environment_of(bundle) | engine.environment,
        start_s=START_SHARE * engine.start_s,
        python=engine.python,
        format="" if run is None else run.format,
        max_tokens=longest_answer(bundle),
        log=str(log),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        version=digest_of(bundle / MANIFEST),
        known=known,
        engine=engine.kind,
        at_once=(run or ALONE).slots,
    )
    if front is not None:
        hosted = replace(
            hosted,
            module=front.module,
            arguments=[*front.arguments, "--port", str(port)],
            python=sys.executable,
            student=front.student,
            front=front.title,
        )
    hosted.write(state)
    return state, hosted


def _can_start(bundle: Path, port: int, run: ServingSetting | None) -> list[Known]:
    """Return the known questions of a bundle, with the answers that its server should give.

    An export may answer otherwise than the evaluation, within its measured loss.

    Raises:
        StratosError: the port is taken, the engine is not installed, or the bundle holds no export
            for it.
    """
    engine = engine_of(run)
    if (why := engine.unusable()) is not None:
        raise StratosError(str(why))
    if port:
        check_free(port, "--port <number>", "--port 0")
    known = read_known(bundle)
    if run is None or not run.format:
        return list(known)
    texts = exported(bundle, engine, run.format).known
    return [replace(answer, text=text) for answer, text in zip(known, texts, strict=False)]


def make_room(state: Path, before: Hosted, port: int, run: ServingSetting | None) -> int:
    """Stop a server so that another can be started; return the port that this is to take.

    Nothing is stopped for one that cannot be started.

    Args:
        state: its file.
        before: what runs.
        port: where the next one listens; 0 takes the same, which its clients know.
        run: the engine of the next one.

    Raises:
        StratosError: the next one cannot be started, or this one does not end.
    """
    _can_start(Path(before.bundle), 0 if before.is_at(port) else port, run)
    stop(state, before)
    return port or before.port


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


def _when_ready(
    state: Path, process: subprocess.Popen[bytes], start_seconds: float | None
) -> Hosted:
    """Wait for an answer: a server may call itself healthy and end at its first question."""
    began, log = time.monotonic(), state.with_suffix(".log")
    while True:
        exit_code = process.poll()  # before the file, which a stop removes
        hosted = Hosted.read(state)
        if exit_code == 0 or (hosted is None and exit_code is None):
            raise StratosError("It was stopped while it started.")
        most_s = start_seconds or (0.0 if hosted is None else hosted.start_s)
        why, hint = "", ""
        if hosted is None or hosted.is_given_up or exit_code is not None:
            why = "ended before it answered"
        elif hosted.supervisor is not None and hosted.server_pid and _has_answered(hosted):
            return hosted
        elif time.monotonic() > began + most_s:
            why = f"did not answer within {most_s:g} seconds"
            hint = (
                "\nGive the command again when the machine is less busy, or --start-seconds <more>."
            )
        if why:
            raise StratosError(f"The server {why}. The end of {log}:\n{last_lines(log)}{hint}")
        time.sleep(_LOOK_S)


def _has_answered(hosted: Hosted) -> bool:
    """Ask a question; return whether the server has answered."""
    messages = hosted.known[0].messages if hosted.known else QUESTION
    with suppress(ServeError):
        ask(hosted.port, messages, hosted.max_tokens if hosted.known else 1, hosted.student)
        return True
    return False


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
    """Stop a server, or its start; return whether there was one.

    A start ends where its file is gone; a server that it has begun meanwhile is ended.

    Raises:
        StratosError: it does not end.
    """
    ran, deadline = False, time.monotonic() + _STOP_S
    while (
        hosted.runs or is_looked_after(state) or (hosted.supervisor is None and is_starting(state))
    ):
        ran = True
        if hosted.runs and hosted.supervisor is not None:
            with suppress(ProcessLookupError):
                os.kill(hosted.supervisor.pid, signal.SIGTERM)
        else:
            state.unlink(missing_ok=True)
        if time.monotonic() > deadline:
            raise StratosError(
                f"The server of {hosted.bundle} does not end. Its process is found with: "
                f"pgrep -f {state.stem}"
            )
        time.sleep(_LOOK_S)
        hosted = Hosted.read(state) or hosted
    state.unlink(missing_ok=True)
    return ran


def differing(hosted: Hosted) -> int:
    """Ask the known questions; return how many answers differ from those that it should give.

    Raises:
        StratosError: the server does not answer.
    """
    try:
        if not hosted.known:
            ask(hosted.port, QUESTION, 1, hosted.student)
        return sum(
            ask(hosted.port, known.messages, hosted.max_tokens, hosted.student) != known.text
            for known in hosted.known
        )
    except ServeError as error:
        raise StratosError(
            f"{hosted.url} does not answer ({error}). The end of "
            f"{hosted.log}:\n{last_lines(Path(hosted.log))}"
        ) from error


def known_answers(hosted: Hosted) -> str:
    """Ask the known questions; say whether it answers as the evaluation, or its export, did.

    Raises:
        StratosError: the server does not answer.
    """
    if not hosted.known:
        return "Its bundle holds no known answers to compare with."
    n, questions = differing(hosted), counted(len(hosted.known), "known question")
    before = f"as {hosted.format} did when it was exported" if hosted.format else (
        "as in the evaluation"
    )  # fmt: skip
    if n:
        return (
            f"Warning: {n} of {questions} it does not answer {before}: stratos verify "
            f"{shlex.quote(hosted.bundle)} tells whether the bundle is whole."
        )
    also = f"; {hosted.n_as_evaluated} of them as in the evaluation" if hosted.format else ""
    return f"It answers {questions} {before}{also}."


# How hosted students are: for a terminal, and as JSON for scripts.


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
        return "\n".join([*lines, f"  log: {hosted.log}"])

    def _state(self) -> str:
        hosted, text = self.hosted, self.state.value
        if self.state in (State.ANSWERS, State.SILENT):
            text += f" at {hosted.url}/v1 since {hosted.since}"
        if self.state is State.GONE:
            text += ": the process that kept it running has ended"
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
        names = ("bundle", "port", "engine", "format", "at_once", "since", "log")
        facts = {name: getattr(hosted, name) for name in (*names, "n_restarts", "exit_code")}
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


def standing(path: Path, hosted: Hosted) -> Standing:
    """Return how a hosted student is, by its file and by asking it."""
    state, n_differing = State.GONE, None
    if hosted.is_given_up:
        state = State.GIVEN_UP
    elif hosted.runs:
        state = State.SILENT
        with suppress(StratosError):
            n_differing = differing(hosted)
            state = State.ANSWERS
    elif hosted.supervisor is None and (is_starting(path) or is_looked_after(path)):
        state = State.STARTING
    answers = state is State.ANSWERS
    statuses = tuple(front.status(path, hosted, answers) for front in fronts())
    return Standing(hosted, state, n_differing, statuses)
