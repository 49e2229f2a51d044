"""Which services can be used here: W&B online, offline or not at all; others, or what they lack."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from urllib.parse import urlsplit

from stratos.config import Config, LoggerConfig
from stratos.core import extras
from stratos.core.reasons import Reason


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
