"""Find the files of a catalog: paths, folders, globs and fsspec URLs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from glob import glob
from pathlib import Path, PurePosixPath

from stratos.core.digest import identity
from stratos.core.errors import CatalogError
from stratos.core.foreign import cause, open_regular
from stratos.core.redact import redact_text
from stratos.core.remote import file_system, local_path

BUILTIN = Path(__file__).with_name("offers.csv")
"""Our own curated table, which `cloud.catalog=[builtin]` names."""

FOLDER_PATTERNS = ("vms.csv", "vms.parquet", "*/vms.csv", "*/vms.parquet")
"""What is read of a folder: SkyPilot's layout, of one cloud or of many side by side."""

_REMOTE_S = 600
"""Seconds for which a catalog that was read from elsewhere is not read again in one process."""


@dataclass(frozen=True)
class File:
    """One file of a catalog."""

    name: str
    data: bytes


def read_files(urls: Sequence[str]) -> Iterator[File]:
    """Yield every file that the URLs name, each once, in the order of the URLs and then by name.

    Args:
        urls: "builtin"; or path or fsspec URL of a CSV or Parquet file, of a folder in SkyPilot's
            layout (<cloud>/vms.csv), or with the wildcards `*`, `?` and `[…]`.

    Raises:
        CatalogError: nothing is there, or it cannot be read.
    """
    seen: set[str] = set()
    for url in urls:
        yield from _files(url, seen)


def cloud_of(name: str) -> str:
    """Return the name of the folder that a file lies in, as SkyPilot lays its catalogs out."""
    return PurePosixPath(name.split("://")[-1]).parent.name.lower()


def _files(url: str, seen: set[str]) -> Iterator[File]:
    if url == "builtin":
        if url not in seen:
            seen.add(url)
            yield File("builtin", BUILTIN.read_bytes())
        return
    path = local_path(url)
    try:
        for name, read in _remote(url) if "://" in path else _local(path):
            if name not in seen:
                seen.add(name)
                yield File(redact_text(name), read())  # it is written into every offer's source
    except FileNotFoundError as error:
        raise CatalogError(
            f"The catalog {url} does not exist. Name a CSV or Parquet file or URL in the SkyPilot "
            "schema with cloud.catalog=[…], or use the built-in one: cloud.catalog=[builtin]."
        ) from error
    except CatalogError:
        raise
    except Exception as error:  # what a remote file system raises is its own affair
        raise CatalogError(
            f"The catalog {url} cannot be read: {cause(error)}. "
            "Check the path or URL in cloud.catalog."
        ) from error


def _local(url: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield name and reader of each file that a path names; fsspec is slow to load."""
    path = Path(url).expanduser()
    if _is_glob(url):
        paths = glob(str(path), recursive=True)
    elif os.path.isdir(path):
        paths = [name for pattern in FOLDER_PATTERNS for name in glob(str(path / pattern))]
        _check_folder(url, paths)
    else:
        yield url, partial(_read, path)
        return
    if not paths:
        raise FileNotFoundError(url)
    for name in sorted(paths):
        yield name, partial(_read, Path(name))


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def state_of(urls: Sequence[str]) -> tuple[object, ...]:
    """Return what changes when a catalog of this machine does; of others, it does now and then."""
    states: list[object] = []
    for url in urls:
        path = local_path(url)
        if url == "builtin":
            continue
        if "://" in path:
            states.append(int(time.monotonic() // _REMOTE_S))
            continue
        try:
            states += [(name, identity(os.stat(name))) for name, _ in _local(path)]
        except (OSError, CatalogError, ValueError):
            states.append(None)
    return tuple(states)


def _remote(url: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield name and reader of each file that a URL names."""
    system, path = file_system(url)
    folder = path.rstrip("/")
    if _is_glob(url):
        paths = system.glob(path)
    elif not url.startswith(("http://", "https://")) and system.isdir(path):
        paths = [name for end in FOLDER_PATTERNS for name in system.glob(f"{folder}/{end}")]
        _check_folder(url, paths)
    else:
        yield url, partial(system.cat_file, path)
        return
    if not paths:
        raise FileNotFoundError(url)
    for name in sorted(paths):
        yield system.unstrip_protocol(name), partial(system.cat_file, name)


def _check_folder(url: str, paths: Sequence[str]) -> None:
    if not paths:
        raise CatalogError(
            f"The catalog {url} is a folder without {' or '.join(FOLDER_PATTERNS)}. Name its "
            f"files: cloud.catalog=['{url.rstrip('/')}/*.csv']."
        )


def _is_glob(url: str) -> bool:
    # A "?" of http is the start of its query.
    return any(mark in url for mark in ("*[" if url.startswith("http") else "*?["))
