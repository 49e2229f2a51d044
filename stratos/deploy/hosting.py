"""Host a bundle on this machine: start a server that stays, ask how it is, stop it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.core.reasons import Because, Reason
from stratos.deploy.bundle_server import (
    ALONE,
    QUESTION,
    arguments_here,
    ask,
    engine_of,
    environment_of,
    longest_answer,
)
from stratos.deploy.engines.base import Engine, engine_named, engines, import_engines_of_run
from stratos.deploy.engines.direct import Direct
from stratos.deploy.engines.http_api import LOOPBACK, name_of
from stratos.deploy.engines.predictor import server_of, setting_of
from stratos.deploy.exports import exported, read_exports
from stratos.deploy.hosted_server import (
    FrontProgram,
    Hosted,
    is_looked_after,
    is_starting,
    next_of,
    starting,
    state_of,
)
from stratos.deploy.manifest import MANIFEST, Known, read_known
from stratos.deploy.server import (
    HOST,
    ServeError,
    check_free,
    free_port,
    last_lines,
)
from stratos.models.kinds.base import has_labels
from stratos.records import Deployment, ServingSetting, load

START_SHARE = 1.5
"""Of the seconds that an engine may take to start: nobody waits for the command that hosts it."""
KEY = "STRATOS_SERVE_KEY"
"""Variable with the key that clients of an address send that other machines reach."""
_STOP_S = 30.0
_LOOK_S = 0.2
_ENDING_S = 2.0
"""Longest that the locks of a killed process are waited for."""


def setting_here(bundle: Path, at_once: int | None = None) -> tuple[ServingSetting | None, str]:
    """Return how a bundle is served on this machine where nobody says otherwise: as its run did.

    One without a run is served by its exports, else by `Direct`, else by transformers.

    Args:
        bundle: folder of the student.
        at_once: answers at once; None takes the engine's own number.

    Returns:
        The setting, None for one request at a time by transformers; and, in a line, what serves it
        in place of the best engine, and what to install for that one; or "".
    """
    import_engines_of_run(bundle.parent)
    measured: Deployment | None = load(bundle.parent / "deploy.json", None, Deployment)
    is_of_run = measured is not None and bundle.name == "bundle"
    if measured is not None and is_of_run:
        at_once = at_once or measured.run.slots
    if (own := server_of(bundle)) is not None:
        return own.setting(at_once), ""
    named = measured.run.engine if measured is not None and is_of_run else ""
    refusals: list[str] = []
    run = engine_of(None).setting(at_once) if at_once else None
    for engine, form in _engines_of(bundle, named):
        if (why := _why_not_served(engine, bundle, form)) is None:
            run = replace(engine.setting(at_once), format=form)
            break
        refusals.append(str(why))
    run = setting_of(bundle, run)
    text = f"{engine_of(run).kind} serves it for now. {' '.join(refusals)}" if refusals else ""
    return run, text


def _why_not_served(engine: Engine, bundle: Path, form: str) -> Reason | None:
    """Return why an engine serves no bundle here, or not this one; None if it does."""
    if (why := engine.unusable()) is not None or engine.makes_files:
        return why
    reason = engine.cannot_export(bundle, form)
    return reason and Because(f"{engine.title} does not load it here: {reason}.")


def _engines_of(bundle: Path, named: str) -> list[tuple[Engine, str]]:
    """Return engines of a bundle with their formats, the best first; transformers serves the rest.

    Args:
        bundle: folder of the student.
        named: engine of its run; "" where it has none.
    """
    exports, direct = read_exports(bundle), Direct()
    exported_to: list[tuple[Engine, str]] = []
    if exports is not None and exports.served:
        exported_to = [(engine_named(exports.engine), exports.served)]
    own: list[tuple[Engine, str]] = [(direct, "")]
    is_another = named not in ("", direct.kind, *(engine.kind for engine, _ in exported_to))
    if is_another or has_labels(bundle) or direct.cannot_read(bundle) is not None:
        return exported_to
    return [*own, *exported_to] if named == direct.kind else [*exported_to, *own]


@dataclass(frozen=True)
class Address:
    """Where a hosted student is reached; what is not named stays as it was."""

    port: int = 0
    """0 for that of before, else a free one."""
    host: str = ""
    """"" for that of before, else this machine alone."""
    name: str = ""
    """Of the model; "" for that of before, else of the bundle's run."""


def prepare(
    bundle: Path,
    cache_dir: Path,
    *,
    address: Address = Address(),
    run: ServingSetting | None = None,
    front: FrontProgram | None = None,
) -> tuple[Path, Hosted]:
    """Write down what is to be started; return the state file and what stands in it.

    Args:
        bundle: folder of the model.
        cache_dir: where it is written down.
        address: where it is reached.
        run: the engine, and answers at once; None for one request at a time.
        front: what is started in place of the engine; None for the engine itself.

    Raises:
        StratosError: the bundle is served already, the port is taken, the engine is not installed,
            or the bundle holds no export for it.
    """
    state = state_of(bundle, cache_dir)
    before = Hosted.read(state)
    if (before is not None and before.runs) or not _is_free(state):
        where = f" at {before.url}/v1 since {before.since}" if before is not None else ""
        raise StratosError(
            f"{bundle} is served{where}. To stop it, type: "
            f"stratos serve stop {shlex.quote(str(bundle))}"
        )
    if before is not None and (before.supervisor is None or before.supervisor.is_of_this_machine):
        address = Address(
            address.port or before.port, address.host or before.host, address.name or before.name
        )
    host = address.host or HOST
    known = can_start(bundle, address.port, run, host)
    state.parent.mkdir(parents=True, exist_ok=True)
    log = state.with_suffix(".log")
    log.write_bytes(b"")
    hosted = replace(
        described(bundle, known, run, front),
        port=address.port or free_port(host),
        host=host,
        name=address.name or name_of(bundle),
        key_file="" if host in LOOPBACK else str(_key_file(state)),
        log=str(log),
    )
    hosted.write(state)
    return state, hosted


def _is_free(state: Path) -> bool:
    """Return whether no process keeps a server running; waits for one that is just ending.

    The threads of a process that was killed may outlive it for a moment, and its locks with them.
    """
    until = time.monotonic() + _ENDING_S
    while is_looked_after(state):
        if time.monotonic() > until:
            return False
        time.sleep(_ENDING_S / 40)
    return True


def described(
    bundle: Path, known: list[Known], run: ServingSetting | None, front: FrontProgram | None
) -> Hosted:
    """Return how a bundle is served, without an address; see `prepare`."""
    engine, port = engine_of(run), free_port()
    hosted = Hosted(
        bundle=str(bundle),
        name="",
        port=0,
        engine_port=port,
        module=engine.module,
        arguments=arguments_here(bundle, port, run),
        environment=environment_of(bundle) | engine.environment,
        start_s=START_SHARE * engine.start_s,
        python=engine.python,
        format="" if run is None else run.format,
        max_tokens=longest_answer(bundle),
        log="",
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        version=digest_of(bundle / MANIFEST),
        known=known,
        engine=engine.kind,
        at_once=(run or ALONE).slots,
    )
    if front is None:
        return hosted
    return replace(
        hosted,
        module=front.module,
        arguments=[*front.arguments, "--port", str(port)],
        python=sys.executable,
        student=front.student,
        front=front.title,
    )


def _key_file(state: Path) -> Path:
    """Return the file with the key of an address that others reach: that of `KEY`, or a new one."""
    path = state.with_suffix(".key")
    key = os.environ.get(KEY) or (path.read_text() if path.exists() else f"sk-{token_hex(24)}")
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key.strip())
    return path


def again(state: Path, hosted: Hosted) -> tuple[Hosted, str]:
    """Write down that a student which ran before, such as before a reboot, is to be started again.

    Returns:
        It, and what serves it where its engine is gone since, as of `setting_here`.

    Raises:
        StratosError: its bundle is gone, or its port is taken.
    """
    bundle, why = Path(hosted.bundle), ""
    if hosted.is_bundle_gone:
        raise StratosError(f"{hosted.bundle} is gone (moved or deleted).")
    engine = engines().get(hosted.engine)
    if engine and not hosted.front and _why_not_served(engine, bundle, hosted.format):
        run, why = setting_here(bundle, hosted.at_once)
        hosted = beside(hosted, described(bundle, can_start(bundle, 0, run), run, None))
    _is_free(state)  # threads of what kept it running may have its port for a moment still
    check_free(hosted.port, "--port <number>", "--port 0", hosted.host)
    hosted = replace(
        hosted,
        supervisor=None, server_pid=0, is_given_up=False,
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        version=digest_of(bundle / MANIFEST),
    )  # fmt: skip
    hosted.write(state)
    return hosted, why


def swap(
    state: Path,
    planned: Hosted,
    *,
    is_forced: bool = False,
    start_seconds: float | None = None,
) -> Hosted:
    """Have another student answer at the address of one that runs; return it when it does.

    It is started beside the other one and asked its known questions first. Requests that the other
    one has are answered by it. Where this fails, the other one goes on.

    Args:
        state: file of the student that runs.
        planned: what is to answer.
        is_forced: whether known answers may differ.
        start_seconds: longest wait for the first answer; None takes what its engine may need.

    Raises:
        StratosError: it does not start, or answers otherwise than in its evaluation.
    """
    path = next_of(state)
    planned.write(path)
    try:
        ready = _when_ready(path, None, start_seconds)
        if (n := differing(ready)) and not is_forced:
            raise StratosError(
                f"{n} of {counted(len(ready.known), 'known question')} it does not answer as in "
                "the evaluation. Add --force to switch all the same."
            )
        replace(ready, is_approved=True).write(path)
        while path.exists():
            time.sleep(_LOOK_S)
            candidate, keeper = Hosted.read(path), Hosted.read(state)
            if candidate is not None and candidate.is_given_up:
                raise StratosError("The server ended before it could be switched to.")
            if keeper is None or not keeper.runs:
                raise StratosError("The student that it was to replace was stopped.")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    now = Hosted.read(state)
    if now is None:
        raise StratosError("It was stopped while it started.")
    return now


def beside(before: Hosted, planned: Hosted, name: str = "") -> Hosted:
    """Return what is to answer at the address of one that runs; `name` is its new name, if any."""
    return replace(
        planned, port=before.port, host=before.host, name=name or before.name,
        key_file=before.key_file, log=before.log, supervisor=before.supervisor,
    )  # fmt: skip


def can_swap(before: Hosted, address: Address, front: FrontProgram | None) -> bool:
    """Return whether a server that is started anew can answer beside the one that runs.

    Another address or key is another proxy's, and two fronts of one bundle would not share a count.
    """
    is_same = before.is_at(address.port) and address.host in ("", before.host)
    is_same &= not before.key_file or os.environ.get(KEY, before.key) in ("", before.key)
    return is_same and not (before.front and front is not None)


def restart(
    state: Path,
    before: Hosted,
    address: Address,
    run: ServingSetting | None,
    front: FrontProgram | None = None,
    start_seconds: float | None = None,
) -> Hosted:
    """Start the server of a bundle anew, without a lost request if `can_swap`; return it.

    Args:
        state: its file.
        before: what runs.
        address: of the next one; what it does not name stays.
        run: the engine of the next one.
        front: what is started in place of that engine.
        start_seconds: longest wait for the first answer.

    Raises:
        StratosError: the next one does not start.
    """
    bundle, cache_dir = Path(before.bundle), state.parent.parent
    if can_swap(before, address, front):
        planned = described(bundle, can_start(bundle, 0, run), run, front)
        planned = beside(before, planned, address.name)
        return swap(state, planned, is_forced=True, start_seconds=start_seconds)
    address = make_room(state, before, address, run)
    state, _ = prepare(bundle, cache_dir, address=address, run=run, front=front)
    return start(state, start_seconds)


def can_start(bundle: Path, port: int, run: ServingSetting | None, host: str = HOST) -> list[Known]:
    """Return the known questions of a bundle, with the answers that its server should give.

    An export may answer otherwise than the evaluation, within its measured loss.

    Raises:
        StratosError: the port is taken, the engine is not installed or does not load the bundle, or
            this holds no export for it.
    """
    engine = engine_of(run)
    if (why := _why_not_served(engine, bundle, "" if run is None else run.format)) is not None:
        raise StratosError(str(why))
    if port:
        check_free(port, "--port <number>", "--port 0", host)
    known = read_known(bundle)
    if run is None or not run.format:
        return list(known)
    texts = exported(bundle, engine, run.format).known
    return [replace(answer, text=text) for answer, text in zip(known, texts, strict=False)]


def make_room(state: Path, before: Hosted, address: Address, run: ServingSetting | None) -> Address:
    """Stop a server so that another can be started; return the address that this is to take.

    Nothing is stopped for one that cannot be started.

    Args:
        state: its file.
        before: what runs.
        address: of the next one; what it does not name stays, which its clients know.
        run: the engine of the next one.

    Raises:
        StratosError: the next one cannot be started, or this one does not end.
    """
    can_start(Path(before.bundle), 0 if before.is_at(address.port) else address.port, run)
    stop(state, before)
    return Address(
        address.port or before.port, address.host or before.host, address.name or before.name
    )


def start(state: Path, start_seconds: float | None = None, *, keeps_state: bool = False) -> Hosted:
    """Start what was prepared, to stay when this process ends; return it when it has answered.

    Args:
        state: file of what was prepared.
        start_seconds: longest wait for the first answer; None takes what its engine may need.
        keeps_state: whether the file stays where it does not start, so that it can be tried again.

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
        if not keeps_state:
            state.unlink(missing_ok=True)
        raise


def _when_ready(
    state: Path, process: subprocess.Popen[bytes] | None, start_seconds: float | None
) -> Hosted:
    """Wait for an answer: a server may call itself healthy and end at its first question."""
    began, log = time.monotonic(), state.with_suffix(".log")
    while True:
        # Before the file, which a stop removes.
        exit_code = None if process is None else process.poll()
        hosted = Hosted.read(state)
        if exit_code == 0 or not state.exists():
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
        ask(hosted.engine_port, messages, hosted.max_tokens if hosted.known else 1, hosted.student)
        return True
    return False


def keep_hosted(
    bundle: Path, cache_dir: Path, *, port: int = 0, run: ServingSetting | None = None
) -> tuple[Hosted, bool]:
    """Host a bundle, in place of an earlier making of it; return it, and whether it ran before.

    One that runs with another engine or format, or at another port, is started anew.

    Args:
        bundle: folder of the model.
        cache_dir: where it is written down.
        port: where it listens; 0 takes that of one that runs, else a free one.
        run: the engine, and answers at once; None for one request at a time.

    Raises:
        StratosError: the port is taken, or nothing answers.
    """
    state, address = state_of(bundle, cache_dir), Address(port)
    with starting(bundle, cache_dir):
        before = Hosted.read(state)
        if before is not None and before.runs:
            if before.serves(run) and before.is_at(port) and not before.is_outdated:
                return before, True
            return restart(state, before, address, run), False
        state, _ = prepare(bundle, cache_dir, address=address, run=run)
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
            ask(hosted.engine_port, QUESTION, 1, hosted.student)
        return sum(
            ask(hosted.engine_port, known.messages, hosted.max_tokens, hosted.student) != known.text
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
