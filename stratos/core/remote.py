"""Files behind URLs through fsspec: required packages and timeouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stratos.core import extras
from stratos.core.foreign import cause
from stratos.core.words import RelativeUrl

_EXTRAS = {"s3": "aws", "s3a": "aws", "gs": "gcp", "gcs": "gcp", "abfs": "azure", "az": "azure"}
"""Protocol to the extra of this package that brings what it needs."""
_SCHEMES = ("https", "s3", "gs", "az", "hf")
_CONNECT_S, _READ_S = 10, 30
"""Longest waits for a server: until it is reached, and for more of its bytes."""


def local_path(url: str) -> str:
    """Return a URL of this machine as a path; fsspec would open what is no regular file."""
    return url.removeprefix("file://").removeprefix("local://")


def why_relative(url: str) -> RelativeUrl | None:
    """Return why a URL of this machine is no absolute path, and what to type; None if it is one.

    `file://tmp/x` would be the folder `tmp/x` below the current one.
    """
    protocol, found, path = url.partition("://")
    if not found or protocol not in ("file", "local") or path.startswith(("/", "~")):
        return None
    if not path or Path(path).is_absolute():  # with a drive, on Windows
        return None
    meant = Path(path).absolute() if path.startswith(".") else Path(f"/{path}")
    return RelativeUrl(protocol, meant)


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it.

    Raises:
        OSError: no file system is called so, or a package is missing; the message says which.
    """
    import fsspec

    protocol = url.partition("://")[0].rpartition("::")[2]
    try:
        found: tuple[Any, str] = fsspec.url_to_fs(url, **_settings(protocol))
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        hint = f"Type: {extras.install(extra)}" if extra else cause(error)
        raise OSError(f"{protocol}:// needs a package that is not installed. {hint}") from error
    except ValueError as error:
        if protocol in fsspec.available_protocols():
            raise OSError(cause(error)) from error
        raise OSError(
            f"there is no file system {protocol or 'without a name'}. Name a path, or a URL that "
            f"begins with {', '.join(f'{scheme}://' for scheme in _SCHEMES)}"
        ) from error
    return found


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
