"""A cluster of SkyPilot: a job as its task, launched, asked for and ended by the program `sky`.

SkyPilot is a program in an environment of its own, and no library (as of 0.14): beside Stratos its
`click<8.2` holds transformers back, and its SDK starts a server that has every key of this process.
Managed jobs keep checkpoints in a bucket, and have a controller, that no plan pays for. Its servers
are reached by ssh.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from stratos.core.errors import StratosError
from stratos.core.extensions import filled
from stratos.core.extras import TRAIN
from stratos.core.formats import visible
from stratos.core.process import is_locked, locked
from stratos.executors.job import JobSpec
from stratos.records import Offer

Answer: TypeAlias = subprocess.CompletedProcess[str]
_ANSWERS_S = 300.0
"""How long `sky` may take to answer: it starts its own server, and asks clouds."""
_LOOKS_S = 40.0
"""How long a node may take to answer."""
_LAUNCH = '"$@"; echo $? >"$0.new" && mv "$0.new" "$0"'
"""Runs a command, and leaves in a file how it has ended."""
_LOOK = """\
cd {base} 2>/dev/null || {{ echo new; exit; }}
state=$(cat state 2>/dev/null || echo new)
[ "${{state#exit}}" = "$state" ] && [ -s pid ] && ! kill -0 "$(cat pid)" 2>/dev/null && state=dead
echo "$state"
"""
_END = "cd {base} && [ -s stage.pid ] && kill -TERM $(cat stage.pid)"


class Unreachable(Exception):
    """SkyPilot or a node that does not answer, or a node whose files cannot be read."""


@dataclass(frozen=True)
class Cluster:
    """One cluster of one node, known by its name."""

    name: str
    program: str
    """SkyPilot's."""
    folder: Path
    """Of this machine, for what launching it leaves."""
    withheld: tuple[str, ...] = ()
    """Variables of the environment that no program gets."""

    # --- SkyPilot -------------------------------------------------------------------------------

    def launch(self, task: Path, secrets: Sequence[str], log: Path) -> None:
        """Begin to launch a task, in a process that outlives this one.

        Args:
            task: its YAML.
            secrets: variables of the environment that the task gets.
            log: for what SkyPilot says.
        """
        given = [word for name in secrets for word in ("--secret", name)]
        words = [self.program, "launch", "--cluster", self.name, "--yes", "--detach-run", *given]
        self._exit.unlink(missing_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        # The launch inherits the lock: it is held until the launch ends, however it does.
        with log.open("wb") as file, locked(self._launch) as lock:
            process = subprocess.Popen(
                ["sh", "-c", _LAUNCH, str(self._exit), *words, str(task)],
                env=self._env, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True, pass_fds=[lock.fileno()],
            )  # fmt: skip
            lock.truncate(0)
            lock.write(str(process.pid).encode())

    def launched(self) -> int | None:
        """Return the exit code of the launch; None where it was none, or has not ended."""
        try:
            return int(self._exit.read_text())
        except (OSError, ValueError):
            return None

    def is_launching(self) -> bool:
        """Return whether it is launched now, by whichever process."""
        return is_locked(self._launch)

    def began_at(self) -> float | None:
        """Return when the launch began, in seconds since the epoch."""
        try:
            return self._launch.stat().st_mtime
        except OSError:
            return None

    def record(self, *, refresh: bool = False) -> dict[str, Any] | None:
        """Return what SkyPilot knows of it; None where there is no such cluster.

        Args:
            refresh: ask the cloud itself.

        Raises:
            Unreachable: SkyPilot does not answer, or cannot ask the cloud.
        """
        more = ("--refresh",) if refresh else ()
        clusters = self._listed("status", self.name, *more)
        return next((record for record in clusters if record.get("name") == self.name), None)

    def down(self) -> bool:
        """End it, and return when it is gone.

        Returns:
            Whether the cloud had a server of it. SkyPilot writes a cluster down before it rents
            one: of a launch that is cut short, the cloud itself is asked.

        Raises:
            Unreachable: it may still be there.
        """
        is_cut_short = self.is_launching()
        if is_cut_short:
            self._stop_launching()
        if self.record() is None:
            return False
        has_server = True
        if is_cut_short:
            with contextlib.suppress(Unreachable):  # nothing is free because nobody answers
                has_server = self.record(refresh=True) is not None
        answer = self._sky("down", "--yes", self.name)
        if self.record() is not None:
            raise Unreachable(last_words(answer.stdout + answer.stderr))
        return has_server

    def _stop_launching(self) -> None:
        """End the launch, of which there may be no cluster yet; SkyPilot's server goes on else."""
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int(self._launch.read_text()), signal.SIGTERM)
        requests = self._listed("api", "status", "--cluster", self.name)
        ids = [each["request_id"] for each in requests if each.get("cluster_name") == self.name]
        if ids:
            self._sky("api", "cancel", "--yes", *ids)

    def _listed(self, *words: str) -> list[dict[str, Any]]:
        """Return a list that `sky` tells as JSON.

        Raises:
            Unreachable: it tells none.
        """
        answer = self._sky(*words, "--output", "json")
        _, start, rest = f"\n{answer.stdout}".rpartition("\n[")  # behind what else it says
        with contextlib.suppress(ValueError):
            if start and not answer.returncode:
                return json.loads(f"[{rest}")
        raise Unreachable(last_words(answer.stderr or answer.stdout))

    def _sky(self, *words: str) -> Answer:
        return sky(self.program, *words, env=self._env)

    @property
    def _env(self) -> dict[str, str]:
        return {name: os.environ[name] for name in os.environ if name not in self.withheld}

    @property
    def _launch(self) -> Path:
        return self.folder / "launch"

    @property
    def _exit(self) -> Path:
        return self.folder / "launched"

    # --- its node -------------------------------------------------------------------------------

    def state(self) -> str:
        """Ask the node how its job stands: new, setup, stage, dead, or exit with a code.

        Raises:
            Unreachable: it does not answer.
        """
        return self._ssh(_LOOK).strip()

    def end_stage(self) -> None:
        """Have the stage save what it has done and end.

        Raises:
            Unreachable: there is no stage that can be told so.
        """
        self._ssh(_END)

    def copy(self, words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Begin to bring files back.

        Args:
            words: of rsync; a source begins with the name of the cluster and a colon.
            log: where rsync says how many bytes have come.

        Raises:
            Unreachable: it is not known how to reach the node.
        """
        shell = shlex.join(["ssh", *self._options()])
        with log.open("wb") as file:
            return subprocess.Popen(
                ["rsync", "--archive", "--no-owner", "--no-group", "--protect-args", "--timeout=60",
                 "--stats", "--info=progress2", "--outbuf=N", "--rsh", shell, *words],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip

    def _ssh(self, script: str) -> str:
        words = ["ssh", *self._options(), self.name, script.format(base=base_of(self.name))]
        answer = _run(words, self._env, _LOOKS_S)
        if answer.returncode:
            raise Unreachable(last_words(answer.stderr))
        return answer.stdout

    def _options(self) -> list[str]:
        """Return how ssh reaches the node: as SkyPilot has written down."""
        config = Path.home() / ".sky" / "generated" / "ssh" / self.name
        try:
            # ssh takes ~ for the home of the account, SkyPilot for $HOME.
            keys = re.findall(r"(?m)^\s*IdentityFile (~\S+)", config.read_text())
        except OSError:
            raise Unreachable("SkyPilot has not written down how to reach it") from None
        own = [word for key in keys for word in ("-i", os.path.expanduser(key))]
        return [
            "-F", str(config), *own, "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4",
            "-o", "ControlMaster=auto", "-o", "ControlPersist=60",
            "-o", f"ControlPath={_sockets()}/%C",
        ]  # fmt: skip


def exit_code(state: str) -> int | None:
    """Return the exit code of a stage, or of what installs it; None where it has not ended."""
    match = re.fullmatch(r"exit (\d+)", state)
    return None if match is None else int(match[1])


def last_words(text: str) -> str:
    """Return the last line of what a program says, without colours."""
    lines = [line.strip() for line in plain(text).splitlines() if line.strip(" │├└─")]
    return lines[-1].strip(" │├└─") if lines else ""


def plain(text: str) -> str:
    """Return a text without what only a terminal understands."""
    return visible(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n"))


@functools.cache
def _sockets() -> str:
    """Return a folder of this user alone, whose name is short: a socket's path is."""
    folder = Path(tempfile.gettempdir()) / f"stratos-ssh-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        return tempfile.mkdtemp(prefix="stratos-ssh-")
    return str(folder)


def sky(program: str, *words: str, env: Mapping[str, str] | None = None) -> Answer:
    """Run SkyPilot's program; one that does not answer in time has exit code 124."""
    env = {**(os.environ if env is None else env), "NO_COLOR": "1"}
    return _run([program, *words], env, _ANSWERS_S)


def run_program(words: list[str], seconds: float) -> Answer:
    """Run a program in this environment; one that does not answer in time has exit code 124."""
    return _run(words, os.environ, seconds)


def _run(words: list[str], env: Mapping[str, str], seconds: float) -> Answer:
    try:
        # Ctrl-C is for Stratos: what it asks of others is done.
        return subprocess.run(
            words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=seconds, check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        why = f"{words[0]} does not answer within {seconds:.0f} s"
        return Answer(words, 124, "", why)
    except OSError as error:
        raise StratosError(f"{words[0]} cannot be run ({error}).") from error


LONGEST_NAME = 42
"""Characters that the pickiest of the clouds takes; SkyPilot shortens what is longer itself."""
RUN, ROLE, JOB = "stratos-run", "stratos-role", "stratos-job"
"""Labels of a server, by which it is found in its account; the last one is its cluster's name."""
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
    labels = {RUN: _label(spec.folder.name), ROLE: _label(spec.role), JOB: name}
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
