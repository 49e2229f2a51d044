"""W&B tracking: one run per command; W&B errors never stop the work.

`tracked` is entered once around the whole pipeline. What it yields is a `Tracker`, whose
`for_stage(name)` fits `Context.log`. With `logger=none` nothing is imported and nothing happens.
"""

from __future__ import annotations

import importlib
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stratos.config import STAGES, Config
from stratos.core.os_signals import Terminated
from stratos.core.redact import redact, redact_override, redact_text

_CONNECT_TIMEOUT_S = 3.0
_FINISH_TIMEOUT_S = 120.0
"""Longest wait for uploads at the end; what is left is on disk, and `wandb sync` sends it."""
_INTERRUPTED = (129, 130, 143)
"""Exit codes of a run that was told to end."""
_INTERRUPTED_TIMEOUT_S = 1.5
"""Longest wait for uploads of such a run."""


class Tracker:
    """A W&B run that cannot fail: the first trouble is said once, and the work goes on."""

    def __init__(self, run: Any | None, warn: Callable[[str], None]) -> None:
        """Wrap a run; None tracks nothing."""
        self._run = run
        self._warn = warn
        self._warned = False

    @property
    def run(self) -> Any | None:
        """The W&B run itself, for Lightning's `WandbLogger(experiment=...)`; None without W&B."""
        return self._run

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics; those named "<stage>/..." get that stage's own step axis."""
        row: dict[str, Any] = dict(metrics)
        if step is not None:
            for name in metrics:
                stage, slash, _ = name.partition("/")
                row[f"{stage}/step" if slash else "step"] = step
        self._try("log metrics", lambda run: run.log(row))

    def for_stage(self, stage: str) -> Callable[..., None]:
        """Return a `log(metrics, step=None)` that puts names under "<stage>/"."""
        prefix = f"{stage}/"

        def log(metrics: Mapping[str, float], step: int | None = None) -> None:
            self.log(
                {
                    name if name.startswith(prefix) else prefix + name: value
                    for name, value in metrics.items()
                },
                step,
            )

        return log

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the numbers that the run is compared by."""
        self._try("write the summary", lambda run: run.summary.update(redact(dict(values))))

    def artifact(self, path: str | Path, name: str, type: str) -> None:
        """Keep a file or a folder as a versioned artifact of the run."""
        self._try(
            f"keep the artifact {name}", lambda run: _log_artifact(run, Path(path), name, type)
        )

    def finish(self, exit_code: int) -> None:
        """End the run; a code other than 0 marks it as failed."""
        if exit_code in _INTERRUPTED:
            # Whoever presses Ctrl-C does not wait for uploads: what is left is on disk.
            act = partial(self._try, "finish the run", lambda run: run.finish(exit_code=exit_code))
            thread = threading.Thread(target=act, daemon=True)
            thread.start()
            thread.join(_INTERRUPTED_TIMEOUT_S)
        else:
            self._try("finish the run", lambda run: run.finish(exit_code=exit_code))
        self._run = None

    def _try(self, what: str, act: Callable[[Any], Any]) -> None:
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as error:  # W&B raises whatever its service, the disk or the net does
            if not self._warned:
                self._warned = True
                self._warn(
                    f"W&B could not {what} ({_one_line(error)}); the run continues without it."
                )


@contextmanager
def tracked(config: Config, warn: Callable[[str], None]) -> Iterator[Tracker]:
    """Open the W&B run of one command and finish it however the block ends.

    Args:
        config: the run's config; `logger` says whether and where, the rest is logged, redacted.
        warn: told once if W&B cannot be used.
    """
    mode = _mode(config, warn)
    with _environment(config.run_dir):
        tracker = Tracker(None if mode is None else _start(config, mode, warn), warn)
        exit_code = 1
        try:
            yield tracker
            exit_code = 0
        except KeyboardInterrupt as told:
            exit_code = told.exit_code if isinstance(told, Terminated) else 130
            raise
        except SystemExit as stop:
            exit_code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            raise
        finally:
            tracker.finish(exit_code)


def _start(config: Config, mode: str, warn: Callable[[str], None]) -> Any | None:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        warn(
            f"logger=wandb, but wandb cannot be imported ({_one_line(error)}): "
            "`pip install wandb`, or logger=none. Nothing is tracked."
        )
        return None
    try:
        return _init(wandb, config, mode)
    except Exception as error:
        trouble = _one_line(error)
    if mode == "online":
        try:
            wandb.teardown()  # a service whose first run failed online refuses the next one too
            run = _init(wandb, config, "offline")
        except Exception as error:
            trouble = _one_line(error)
        else:
            warn(f"W&B cannot be used online ({trouble}): kept offline; `wandb sync` sends it.")
            return run
    warn(f"W&B could not start ({trouble}). Nothing is tracked; logger=none asks for that.")
    return None


def _init(wandb: Any, config: Config, mode: str) -> Any:
    config.run_dir.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=config.logger.project,
        entity=config.logger.entity,
        group=config.logger.group or _sweep_name(),
        name="-".join(config.run_dir.resolve().parts[-2:]),
        job_type="stratos",
        tags=[config.task.name, config.cloud.name],
        config=redact(config.plain),
        dir=str(config.run_dir),
        id=_run_id(config.run_dir),
        resume="allow" if mode == "online" else None,
        mode=mode,
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=30.0,
            finish_timeout=_FINISH_TIMEOUT_S,
        ),
    )
    run.define_metric("step", hidden=True)
    for stage in STAGES:
        run.define_metric(f"{stage}/step", hidden=True)
        run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
    return run


def _run_id(run_dir: Path) -> str:
    """Return the id of a run folder's W&B run: the same when the run is gone on with.

    Offline, each command leaves a folder of its own with that id; `wandb sync --append` sends them
    to one run.
    """
    path = run_dir / "wandb" / "run_id"
    with suppress(OSError):
        known = path.read_text().strip()
        if known:
            return known
    made = secrets.token_hex(4)
    with suppress(OSError):  # of a folder that cannot be written, nothing is kept
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{made}\n")
    return made


def _log_artifact(run: Any, path: Path, name: str, type: str) -> None:
    wandb = importlib.import_module("wandb")
    artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "-", name), type=type)
    if path.is_dir():
        # Not copied: a bundle is big, and it stays where it is.
        artifact.add_dir(str(path), policy="immutable", skip_cache=True)
    else:
        artifact.add_file(str(path), skip_cache=True)
    run.log_artifact(artifact)


def _mode(config: Config, warn: Callable[[str], None]) -> str | None:
    """Return online or offline, or None where nothing is to be tracked."""
    mode: str = config.logger.mode
    if config.logger.name == "none":
        return None
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "online" if _has_login() else "offline")
    elif mode == "online" and not _has_login():
        # wandb would ask for a key on the terminal and wait for ever.
        warn("logger.mode=online, but there is no W&B key: set WANDB_API_KEY or `wandb login`.")
        mode = "offline"
    if mode == "online" and not _is_reachable():
        warn(f"{_host()} cannot be reached: W&B is kept offline; `wandb sync` sends it later.")
        mode = "offline"
    return None if mode == "disabled" else mode


def _host() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _has_login() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import netrc

    try:
        logins = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return (urlsplit(_host()).hostname or "") in logins.hosts


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


def _sweep_name() -> str | None:
    """Return the folder name of the Hydra sweep that this job is part of: its W&B group."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(HydraConfig.get().sweep.dir).name
    return None


@contextmanager
def _environment(run_dir: Path) -> Iterator[None]:
    """Set what W&B takes from the environment alone: silence, and where artifacts are staged."""
    wanted = {"WANDB_SILENT": "true", "WANDB_DATA_DIR": str(run_dir / "wandb")}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    argv, sys.argv = sys.argv, [redact_override(word) for word in sys.argv]  # which W&B records
    try:
        yield
    finally:
        sys.argv = argv
        for name in ours:
            os.environ.pop(name, None)


def _one_line(error: BaseException) -> str:
    return redact_text(" ".join(f"{type(error).__name__}: {error}".split()))[:200]
