"""Files behind URLs, and models on the Hugging Face hub: required packages, timeouts, availability.

Nothing here loads a weight.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from stratos.core import extras
from stratos.core.foreign import cause, why_unreadable
from stratos.core.reasons import Because, Reason

_OF_CLOUDS = ("s3", "s3a", "gs", "gcs", "abfs", "az")
"""Protocols that an extra of this package brings."""
_SCHEMES = ("https", "s3", "gs", "az", "hf")
_CONNECT_S, _READ_S = 10, 30
"""Longest waits for a server: until it is reached, and for more of its bytes."""


def local_path(url: str) -> str:
    """Return a URL of this machine as a path; fsspec would open what is no regular file."""
    return url.removeprefix("file://").removeprefix("local://")


def why_relative(url: str) -> Reason | None:
    """Return why a URL of this machine is no absolute path, and what to type; None if it is one.

    `file://tmp/x` would be the folder `tmp/x` below the current one.
    """
    protocol, separator, path = url.partition("://")
    if not separator or protocol not in ("file", "local") or path.startswith(("/", "~")):
        return None
    if not path or Path(path).is_absolute():  # with a drive, on Windows
        return None
    meant = Path(path).absolute() if path.startswith(".") else Path(f"/{path}")
    return Because(
        f"two slashes make this a path below the current folder: type {protocol}://{meant}"
    )


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it.

    Raises:
        OSError: no file system is called so, or a package is missing; the message says which.
    """
    import fsspec

    protocol = url.partition("://")[0].rpartition("::")[2]
    try:
        system: tuple[Any, str] = fsspec.url_to_fs(url, **_settings(protocol))
    except ImportError as error:
        hint = f"Type: {extras.install('cloud')}" if protocol in _OF_CLOUDS else cause(error)
        raise OSError(f"{protocol}:// needs a package that is not installed. {hint}") from error
    except ValueError as error:
        if protocol in fsspec.available_protocols():
            raise OSError(cause(error)) from error
        raise OSError(
            f"there is no file system {protocol or 'without a name'}. Name a path, or a URL that "
            f"begins with {', '.join(f'{scheme}://' for scheme in _SCHEMES)}"
        ) from error
    return system


def protocols(system: Any) -> tuple[str, ...]:
    """Return the names of a file system of fsspec."""
    named = system.protocol
    return (named,) if isinstance(named, str) else tuple(named)


def make_parent(system: Any, path: str) -> None:
    """Make the folder of a file, where folders have to be made.

    An object store has none, and would be told to make a bucket.
    """
    if "file" in protocols(system):
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def _settings(protocol: str) -> dict[str, Any]:
    if protocol not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(connect=_CONNECT_S, sock_connect=_CONNECT_S, sock_read=_READ_S)
    return {"client_kwargs": {"timeout": timeout}}


MOST_IDLE_S = 2.0
"""Seconds after which a connection without a request is not used again. Servers close such ones
(uvicorn, and what is built on it, after 5, as long as the client's own default), and a request that
is sent at that moment fails."""


def limits() -> Any:
    """Return the connection limits of a client: those of OpenAI's, with `MOST_IDLE_S`."""
    import httpx

    return httpx.Limits(
        max_connections=1000, max_keepalive_connections=100, keepalive_expiry=MOST_IDLE_S
    )


def is_hub_name(path: str) -> bool:
    """Return whether a path may be the name of a model: `org/model`, or `model`."""
    return not path.startswith((".", "/", "~")) and "\\" not in path and 0 < path.count("/") + 1 < 3


def location(path: str) -> tuple[str, bool]:
    """Return what a loader takes for a path, and whether it is a folder of this machine.

    What is none is taken for the name of a model on the hub, which loaders fetch once.
    """
    folder = os.path.expanduser(path)
    return (folder, True) if os.path.isdir(folder) else (path, False)


def cached_weights(name: str) -> bool:
    """Return whether the weights of a model lie in the hub's local cache; asks no network."""
    files = ("model.safetensors", "model.safetensors.index.json")
    folder = cached_folder(name)
    return folder is not None and any((folder / file).exists() for file in files)


def cached_folder(name: str) -> Path | None:
    """Return the folder of the hub's local cache that a model lies in; asks no network."""
    if not is_hub_name(name):
        return None
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        with warnings.catch_warnings():
            # The hub's client loads tqdm, which misses widgets in a notebook; it draws no bar here.
            warnings.filterwarnings("ignore", message="IProgress not found")
            path = huggingface_hub.try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(path).parent if isinstance(path, str) else None


def missing_on_hub(name: str, revision: str | None = None) -> Reason | None:
    """Return why a model cannot be had from the hub or its local cache, or None.

    The hub is asked for a file's headers at most.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return None
        if constants.HF_HUB_OFFLINE:
            return Because("HF_HUB_OFFLINE is set and nothing is cached")
        url = huggingface_hub.hf_hub_url(name, "config.json", revision=revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=5)
    except HFValidationError:
        return Because("this is not a valid model name")
    except HfHubHTTPError as error:
        status = "no answer" if error.response is None else error.response.status_code
        return Because(f"HTTP status {status}")
    except Exception as error:  # whatever the HTTP library under the hub's client raises
        return Because(f"{type(error).__name__}: the hub cannot be reached")
    return None


def config_file(path: str) -> Path:
    """Return the config.json of a model: that of a folder here, else the hub's, fetched once.

    Raises:
        OSError: there is none, with the reason.
    """
    folder, is_folder = location(path)
    if is_folder:
        file = Path(folder) / "config.json"
        if not file.exists():
            raise OSError(f"the folder {path} has no config.json")
        if reason := why_unreadable(file):
            raise OSError(f"the config.json of {path}: {reason}")
        return file
    if not is_hub_name(path):
        raise OSError(f"there is no folder {path}")
    reason = missing_on_hub(path)
    if reason is not None:
        raise OSError(
            f"{path} is not a folder here, and cannot be downloaded from the hub ({reason})"
        )
    if (cached := cached_folder(path)) is not None:
        return cached / "config.json"
    import huggingface_hub

    return Path(huggingface_hub.hf_hub_download(path, "config.json"))
