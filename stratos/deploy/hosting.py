"""Host a bundle on this machine: start a server that stays, ask how it is, stop it.

What runs is written down in one file for each bundle, below the cache folder: what was started,
where it listens, and the process that looks after it (`supervisor`).
"""

from __future__ import annotations

import hashlib
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.core.locks import locked
from stratos.core.process import Process
from stratos.deploy.bundle_server import QUESTION, arguments_here, ask
from stratos.deploy.commands import engine_of, environment_of
from stratos.deploy.exports import exported
from stratos.deploy.manifest import MANIFEST, Known, read_known
from stratos.deploy.server import HOST, check_free, free_port, last_lines
from stratos.records import ServingSetting

CACHE = "STRATOS_CACHE"
"""Variable with the cache folder of commands that have no config."""
START_SHARE = 1.5
"""Of the seconds that an engine may take to start: nobody waits for the command that hosts it."""
_STOP_S = 30.0
_ANSWER_S = 120.0
_LOOK_S = 0.2


@dataclass(frozen=True)
class Hosted:
    """A server that was started to stay."""

    bundle: str
    port: int
    module: str
    """The engine's program, as for `python -m`."""
    arguments: list[str]
    environment: dict[str, str]
    log: str
    since: str
    """When it was started."""
    version: str
    """Tells one making of the bundle from another: the SHA-256 of its manifest."""
    supervisor: Process | None = None
    """What keeps it running."""
    max_tokens: int | None = None
    """Longest answer, as the evaluation had it."""
    server_pid: int = 0
    n_restarts: int = 0
    exit_code: int | None = None
    """Of the server, when it last ended by itself."""
    is_given_up: bool = False
    """It ended at once too often."""
    start_s: float = 300.0
    """Seconds from its start to its first answer, at most."""
    python: str = sys.executable
    """Interpreter that has the module."""
    format: str = ""
    """Export that is served; "" for the bundle's own weights."""
    asked: list[Known] = field(default_factory=list)
    """Questions that tell whether it answers as it should."""

    @property
    def url(self) -> str:
        """Address that its paths are under."""
        return f"http://{HOST}:{self.port}"

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
        evaluated = {str(one.messages): one.text for one in read_known(Path(self.bundle))}
        return sum(evaluated.get(str(one.messages)) == one.text for one in self.asked)

    @property
    def runs(self) -> bool:
        """Whether somebody of this machine looks after it."""
        one = self.supervisor
        return one is not None and one.is_of_this_machine and not one.is_dead()

    def serves(self, run: ServingSetting | None) -> bool:
        """Return whether it is of the engine and the export that a setting names."""
        form = "" if run is None else run.format
        return self.module == engine_of(run).module and (not form or form == self.format)

    @staticmethod
    def read(state: Path) -> Hosted | None:
        """Return what a state file describes; None where there is none."""
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(state.read_bytes(), type=Hosted)
        return None

    def write(self, state: Path) -> None:
        """Write it down."""
        write_atomically(state, msgspec.json.format(msgspec.json.encode(self), indent=1))


class ServedError(StratosError):
    """It is served already."""


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
            f"{bundle}: another command is starting its server. To see it, type: python -m "
            f"stratos.serve status {shlex.quote(str(bundle))}"
        ) from None


def is_looked_after(state: Path) -> bool:
    """Return whether a process keeps a server running, whatever the state file says."""
    return _is_held(supervised(state))


def is_starting(state: Path) -> bool:
    """Return whether a command is starting a server."""
    return _is_held(_start_of(state))


def _is_held(path: Path) -> bool:
    try:
        with locked(path):
            return False
    except BlockingIOError:
        return True


def _start_of(state: Path) -> Path:
    return state.with_suffix(".starting")


def supervised(state: Path) -> Path:
    """Return the file that is locked for as long as a server is kept running."""
    return state.with_suffix(".lock")


def bundle_in(folder: Path) -> Path:
    """Return the bundle that a folder is, or that the run in it has made.

    Raises:
        StratosError: it is neither.
    """
    for path in (folder, folder / "bundle"):
        if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
            return path.resolve()
    raise StratosError(
        f"{folder} holds no bundle: name the folder of a finished run (outputs/<run>) or its "
        "bundle. A run with deploy=none makes none; the same command without it does."
    )


def hosted_bundle(folder: Path, cache_dir: Path) -> Path:
    """Return the bundle that a folder is or holds, also where it is hosted and gone by now.

    Raises:
        StratosError: it is no bundle, and none was hosted from there.
    """
    try:
        return bundle_in(folder)
    except StratosError:
        for path in (folder.resolve(), folder.resolve() / "bundle"):
            if state_of(path, cache_dir).exists():
                return path
        raise


def state_of(bundle: Path, cache_dir: Path) -> Path:
    """Return where it is written down how a bundle is served."""
    name = hashlib.sha256(str(bundle).encode()).hexdigest()[:16]
    return cache_dir / "served" / f"{name}.json"


def hosted_here(cache_dir: Path) -> Iterator[tuple[Path, Hosted]]:
    """Yield all that was started on this machine and not stopped, with its state file."""
    for state in sorted((cache_dir / "served").glob("*.json")):
        if (found := Hosted.read(state)) is not None:
            yield state, found


def prepare(
    bundle: Path, cache_dir: Path, *, port: int = 0, run: ServingSetting | None = None
) -> tuple[Path, Hosted]:
    """Write down what is to be started; return the state file and what stands in it.

    Args:
        bundle: folder of the model.
        cache_dir: where it is written down.
        port: where it listens; 0 takes a free one.
        run: the engine, and answers at once; None for one request at a time.

    Raises:
        StratosError: the bundle is served already, the port is taken, the engine is not installed,
            or the bundle holds no export for it.
    """
    engine = engine_of(run)
    if (why := engine.unusable()) is not None:
        raise StratosError(why)
    asked = known_to(bundle, run)
    state = state_of(bundle, cache_dir)
    before = Hosted.read(state)
    if before is not None and before.runs:
        raise ServedError(
            f"{bundle} is served at {before.url}/v1 since {before.since}. To stop it, type: "
            f"python -m stratos.serve stop {shlex.quote(str(bundle))}"
        )
    if is_looked_after(state):
        raise StratosError(
            f"{bundle} is served, and {state} does not say where: it was written to. What runs is "
            f"found with: pgrep -f {state.stem}"
        )
    if port:
        check_free(port, "--port <number>", "--port 0")
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
        asked=asked,
    )
    hosted.write(state)
    return state, hosted


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

    Args:
        bundle: folder of the model.
        cache_dir: where it is written down.
        port: where it listens; 0 takes a free one.
        run: the engine, and answers at once; None for one request at a time.

    Raises:
        StratosError: the port is taken, or nothing answers.
    """
    state = state_of(bundle, cache_dir)
    with starting(bundle, cache_dir):
        before = Hosted.read(state)
        if before is not None and before.runs:
            if before.serves(run) and not before.is_outdated:
                return before, True
            stop(state, before)
            port = port or before.port  # its clients know that one
        state, _ = prepare(bundle, cache_dir, port=port, run=run)
        return start(state), False


def stop(state: Path, hosted: Hosted) -> bool:
    """Stop a server; return whether it ran.

    Raises:
        StratosError: it does not end.
    """
    one = hosted.supervisor
    if one is None or one.is_dead():
        state.unlink(missing_ok=True)
        return False
    if not one.is_of_this_machine:
        raise StratosError(
            f"{hosted.bundle} was started on {one.host}, and this is {socket.gethostname()}: stop "
            f"it there. If that machine is gone, delete {state}"
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


def differing(hosted: Hosted) -> int:
    """Ask the known questions; return how many answers differ from those that it should give.

    Raises:
        StratosError: the server does not answer.
    """
    try:
        if not hosted.asked:
            ask(hosted.port, QUESTION, 1)
        return sum(
            ask(hosted.port, one.messages, hosted.max_tokens) != one.text for one in hosted.asked
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StratosError(
            f"{hosted.url} does not answer ({error or type(error).__name__}). The end of "
            f"{hosted.log}:\n{last_lines(Path(hosted.log))}"
        ) from error


def longest_answer(bundle: Path) -> int | None:
    """Return the most tokens that a bundle's answers had in the evaluation; None if unsaid."""
    try:
        facts = json.loads((bundle / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return int(facts["max_new_tokens"]) if facts.get("max_new_tokens") else None


def _when_ready(
    state: Path, process: subprocess.Popen[bytes], start_seconds: float | None
) -> Hosted:
    """Wait for an answer: a server may call itself healthy and end at its first question."""
    began = time.monotonic()
    while True:
        hosted = Hosted.read(state)
        if hosted is None or hosted.is_given_up or process.poll() is not None:
            log = state.with_suffix(".log")
            raise StratosError(
                f"The server ended before it answered. The end of {log}:\n{last_lines(log)}"
            )
        messages = hosted.asked[0].messages if hosted.asked else QUESTION
        with suppress(OSError, http.client.HTTPException, ValueError, KeyError, IndexError):
            ask(hosted.port, messages, hosted.max_tokens if hosted.asked else 1)
            return hosted
        most_s = start_seconds or hosted.start_s
        if time.monotonic() > began + most_s:
            raise StratosError(
                f"The server did not answer within {most_s:g} seconds. The end of "
                f"{hosted.log}:\n{last_lines(Path(hosted.log))}\n"
                "Give the command again when the machine is less busy, or --start-seconds <more>."
            )
        time.sleep(_LOOK_S)
