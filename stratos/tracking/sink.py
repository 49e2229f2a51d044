"""What a tracking service does, the thread in which it does it, and which can be used here.

What hangs or fails there never holds the run back.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, Literal
from urllib.parse import urlsplit

from stratos.config import Config, LoggerConfig
from stratos.core import extras
from stratos.core.reasons import Reason
from stratos.core.redact import redact_text

_MOST_WAITING = 20_000
"""Calls that wait at most; further ones are dropped."""
_FREE_BYTES = 2**20
"""Below that the disk counts as full, and nothing is written to it."""

Cell = str | float | bool | None


@dataclass(frozen=True)
class Start:
    """What a run begins with."""

    config: Config
    name: str
    """Last two parts of the run folder."""
    group: str | None
    """`logger.group`, or the folder of the sweep that the run is a job of."""

    @property
    def folder(self) -> Path:
        """Return the run folder."""
        return self.config.run_dir

    def own_folder(self) -> Path:
        """Return the folder below it where sinks without a service of their own write."""
        folder = self.folder / "tracking"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True)
class Table:
    """Rows of equal length below named columns; without secrets, and of bounded size."""

    name: str
    """Such as evaluate/answers."""
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Chart:
    """A table that is drawn: points, or a line for each value of the column `series`."""

    table: Table
    title: str
    x: str
    y: str
    kind: Literal["scatter", "lines"] = "scatter"
    series: str = ""


@dataclass(frozen=True)
class Artifact:
    """One result of a stage, and which others it was made from."""

    name: str
    type: str
    record: Path
    """JSON file that is kept whole."""
    files: tuple[Path, ...] = ()
    """Files and folders that belong to it. They may be large: only `logger.upload` sends them."""
    made_from: tuple[str, ...] = ()
    """Names of other artifacts of the run."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_input: bool = False
    """Whether another run made it, and this one only reads it."""


class Sink:
    """One service. Everything runs in its own thread, so that it may take its time and may fail."""

    title = ""
    """What messages call it."""

    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        """Begin, or go on with, the run there; raises where that cannot be."""
        raise NotImplementedError

    def log(self, metrics: Mapping[str, float], axis: str, at: float) -> None:
        """Keep metrics.

        Args:
            metrics: by name, such as distill/loss.
            axis: what they are drawn over, such as distill/step; "" for nothing.
            at: value of the axis.
        """

    def summary(self, values: Mapping[str, Cell]) -> None:
        """Set the numbers that runs are compared by."""

    def table(self, table: Table) -> None:
        """Keep a table."""

    def chart(self, chart: Chart) -> None:
        """Keep a chart."""
        self.table(chart.table)

    def artifact(self, artifact: Artifact) -> None:
        """Keep an artifact."""

    def alert(self, title: str, text: str, is_error: bool) -> None:
        """Tell the user of something now."""

    def finish(self, exit_code: int) -> None:
        """End the run there; a code other than 0 marks it as failed."""


class SinkThread:
    """Hands calls on to one sink, in order. The first trouble is told, and the work goes on."""

    def __init__(self, sink: Sink, start: Start) -> None:
        self._sink = sink
        self._folder = start.folder
        self._waiting: Queue[tuple[str, Callable[[Sink], Any]] | None] = Queue(_MOST_WAITING)
        self._complaints: Queue[str] = Queue()
        self._has_complained = False
        self._n_dropped = 0
        self._is_open = True
        self._thread = threading.Thread(
            target=self._run, args=(start,), name=f"tracking {sink.title}", daemon=True
        )
        self._thread.start()

    def do(self, what: str, act: Callable[[Sink], Any]) -> None:
        """Have the sink do something soon; `what` says it in a complaint."""
        if not self._is_open:
            return
        try:
            self._waiting.put_nowait((what, act))
        except Full:
            self._n_dropped += 1

    def complaints(self) -> list[str]:
        """Return what there is to warn of since the last call."""
        complaints = []
        with suppress(Empty):
            while True:
                complaints.append(self._complaints.get_nowait())
        return complaints

    def finish(self, exit_code: int, longest_s: float) -> None:
        """End the run there, and wait for it for a while."""
        with suppress(Full):
            self._waiting.put_nowait(("finish the run", lambda sink: sink.finish(exit_code)))
            self._waiting.put_nowait(None)
        self._thread.join(longest_s)
        if self._thread.is_alive():
            self._complain(
                f"{self._sink.title} does not answer: part of what was tracked was not sent."
            )
        elif self._n_dropped:
            self._complain(
                f"{self._sink.title} was too slow: {self._n_dropped:,} calls were left out."
            )

    def _run(self, start: Start) -> None:
        try:
            self._sink.open(start, self._complaints.put)
        except Exception as error:  # a service raises whatever its host, the disk or the net does
            self._is_open = False
            self._complain(
                f"{self._sink.title} could not start ({one_line(error)}). Nothing is tracked "
                "there; logger=none asks for that."
            )
            return
        while (waiting := self._waiting.get()) is not None:
            what, act = waiting
            try:
                self._check_disk()
                act(self._sink)
            except Exception as error:
                self._complain(
                    f"{self._sink.title} could not {what} ({one_line(error)}); the run continues "
                    "without it."
                )

    def _check_disk(self) -> None:
        with suppress(FileNotFoundError):
            if shutil.disk_usage(self._folder).free < _FREE_BYTES:
                raise OSError(f"the disk of {self._folder} is full")

    def _complain(self, text: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            self._complaints.put(text)


def one_line(error: BaseException) -> str:
    """Return an error as one line without secrets."""
    return redact_text(" ".join(f"{type(error).__name__}: {error}".split()))[:200]


# Which services can be used here: W&B online, offline or not at all; others, or what they lack.


class PackageMissing(Reason):
    """A tracker's package is not installed."""

    name: str

    def __str__(self) -> str:
        return (
            f"logger={self.name} needs the package {self.name}. Type: {extras.install(self.name)}"
        )


class NoTrackingServer(Reason):
    """MLflow is asked for, and nothing says where its server is."""

    says = (
        "logger=mlflow needs the address of a tracking server. Type "
        "logger.tracking_uri=http://<host>:5000, or set MLFLOW_TRACKING_URI. To start one "
        "here: mlflow server --port 5000"
    )


class KeyRefused(Reason):
    """W&B does not take the key of the environment."""

    host: str
    status: int
    """HTTP status of its answer."""

    says = "{host} refuses the key of WANDB_API_KEY (HTTP {status})"


_CONNECT_TIMEOUT_S = 3.0


def wandb_mode(config: Config, warn: Callable[[str], None]) -> str:
    """Return online or offline, or disabled where nothing is to be tracked there.

    Args:
        config: `logger.mode` says what is wanted.
        warn: told where that cannot be.
    """
    mode: str = config.logger.mode
    if not config.logger.wandb:
        return "disabled"
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "online" if has_login() else "offline")
    elif mode == "online" and not has_login():
        # wandb would ask for a key on the terminal and wait for ever.
        warn("logger.mode=online, but there is no W&B key: set WANDB_API_KEY or `wandb login`.")
        mode = "offline"
    if mode == "online" and not _is_reachable():
        warn(f"{_host()} cannot be reached: W&B is kept offline; `wandb sync` sends it later.")
        mode = "offline"
    return mode


def has_login() -> bool:
    """Return whether there is a key, in the environment or in the file of logins."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import netrc

    try:
        logins = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return (urlsplit(_host()).hostname or "") in logins.hosts


def why_refused() -> KeyRefused | None:
    """Ask the host about the key; None where it takes it, or where that cannot be told."""
    import base64
    import json
    import urllib.error
    import urllib.request

    key = os.environ.get("WANDB_API_KEY")
    if not key:
        return None
    request = urllib.request.Request(
        f"{_host().rstrip('/')}/graphql",
        json.dumps({"query": "query { viewer { id } }"}).encode(),
        {
            "Authorization": f"Basic {base64.b64encode(f'api:{key}'.encode()).decode()}",
            "Content-Type": "application/json",
        },
    )
    try:
        urllib.request.urlopen(request, timeout=_CONNECT_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return KeyRefused(_host(), error.code)
    except OSError:
        pass  # W&B says what is wrong
    return None


def _host() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _is_reachable() -> bool:
    import socket
    import urllib.request

    if urllib.request.getproxies():
        return True  # only the proxy knows
    url = urlsplit(_host())
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname or "", port), _CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def unusable(logger: LoggerConfig) -> Iterator[Reason]:
    """Yield why a service that is asked for cannot be used; W&B alone may be left out."""
    for name, is_wanted in (("tensorboard", logger.tensorboard), ("mlflow", logger.mlflow)):
        if is_wanted and find_spec(name) is None:
            yield PackageMissing(name)
    if logger.mlflow and not logger.tracking_uri and not os.environ.get("MLFLOW_TRACKING_URI"):
        yield NoTrackingServer()
