"""Publish a bundle: to a folder, behind a URL of fsspec, or as a model repository of the hub.

The manifest is taken away first and put there last, so that whoever reads one finds all files that
it names; `stratos verify` compares each with its SHA-256.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.core.foreign import cause
from stratos.core.redact import redact
from stratos.core.remote import file_system, make_parent, protocols, why_relative
from stratos.deploy.manifest import MANIFEST, check_manifest, names_in

HUB = "hf://"
_N_TRIES = 3


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    url: str
    n_files: int
    was_there: bool
    """The same bundle was there already, and nothing was sent."""


def is_url(place: str) -> bool:
    """Return whether a place is not a path of this machine."""
    return "://" in place


def check_target(target: str) -> None:
    """Try whether a bundle can be put somewhere, before anything is made that would be.

    Raises:
        StratosError: it cannot; the message says why.
    """
    if target.startswith(HUB):
        repository_of(target)
        with _said(target):
            _hub().whoami()
        return
    if (why := why_relative(target)) is not None:
        raise StratosError(f"{target}: {why}.")
    with _said(target):
        system, root = _opened(target)
        trial = f"{root}/.stratos-{uuid4().hex}"
        make_parent(system, trial)
        system.pipe_file(trial, b"")
        system.rm_file(trial)


def push(bundle: Path, target: str, tick: Callable[[int, int], None] | None = None) -> Pushed:
    """Put a bundle somewhere, in place of what is there under the same names.

    Args:
        bundle: its folder.
        target: a folder, a URL of fsspec, or hf://OWNER/NAME.
        tick: told how many files are there, and of how many.

    Raises:
        StratosError: the bundle is not as it was made, or the place does not take it.
    """
    n_files = check_manifest(bundle)
    if target.startswith(HUB):
        return _push_to_hub(bundle, target, n_files)
    with _said(target):
        system, root = _opened(target)
        mine = (bundle / MANIFEST).read_bytes()
        there = f"{root}/{MANIFEST}"
        before = system.cat_file(there) if system.exists(there) else None
        names = names_in(bundle)
        is_same = before == mine
        if is_same and all(_is_there(system, bundle / one, f"{root}/{one}") for one in names):
            return Pushed(target, n_files, was_there=True)
        if before is not None:
            system.rm_file(there)
            for name in _named_by(before) - {MANIFEST, *names}:  # of an earlier bundle
                if system.exists(f"{root}/{name}"):
                    system.rm_file(f"{root}/{name}")
        for place, name in enumerate(names):
            if tick is not None:
                tick(place, len(names))
            _put(system, bundle / name, f"{root}/{name}")
        system.invalidate_cache()
        if system.exists(there):
            raise StratosError(
                f"{redact(target)}: another bundle was put there meanwhile. Give the command again "
                "when that push has ended."
            )
        _put(system, bundle / MANIFEST, there)
    return Pushed(target, n_files, was_there=False)


def fetched(url: str, folder: Path) -> Path:
    """Bring a bundle that was pushed into a folder; return it.

    Raises:
        StratosError: there is none, or it cannot be read.
    """
    with _said(url):
        if url.startswith(HUB):
            from huggingface_hub import snapshot_download

            return Path(snapshot_download(repository_of(url), local_dir=folder))
        system, root = _opened(url)
        if not system.exists(f"{root}/{MANIFEST}"):
            raise StratosError(
                f"{redact(url)} holds no bundle: there is no {MANIFEST}. A push that was cut short "
                "leaves none; the command of the run, given again, pushes it whole."
            )
        system.get(f"{root}/", f"{folder}{os.sep}", recursive=True)
    return folder


def repository_of(url: str) -> str:
    """Return OWNER/NAME of hf://OWNER/NAME.

    Raises:
        StratosError: it is none.
    """
    name = url.removeprefix(HUB).strip("/")
    if name.count("/") != 1 or not all(name.split("/")):
        raise StratosError(f"{url}: expected hf://OWNER/NAME, such as hf://me/mahjong-1m.")
    return name


def _push_to_hub(bundle: Path, target: str, n_files: int) -> Pushed:
    """Push as one commit of a model repository, which is made, for its owner alone, if needed."""
    repository = repository_of(target)
    with _said(target):
        hub = _hub()
        hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            folder_path=bundle,
            commit_message="Student made by Stratos",
            delete_patterns="*",  # what an earlier bundle had and this one has not
        )
    return Pushed(f"https://huggingface.co/{repository}", n_files, was_there=False)


def _hub() -> Any:
    from huggingface_hub import HfApi

    return HfApi()


def _opened(target: str) -> tuple[Any, str]:
    place = target if is_url(target) else str(Path(target).expanduser().absolute())
    system, root = file_system(place)
    system.invalidate_cache()
    return system, str(root).rstrip("/")


def _is_there(system: Any, path: Path, there: str) -> bool:
    """Return whether a file is there: by its size, and on disks by what is in it."""
    if not system.exists(there) or system.info(there)["size"] != path.stat().st_size:
        return False
    return "file" not in protocols(system) or digest_of(Path(there)) == digest_of(path)


def _named_by(manifest: bytes) -> set[str]:
    """Return the files that a manifest names; none of one that cannot be read."""
    try:
        return {
            str(name) for name in json.loads(manifest)["sha256"]
            if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        }  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return set()


def _put(system: Any, path: Path, there: str) -> None:
    """Put a file, a few times if the connection breaks, and see that it is whole."""
    n_bytes = path.stat().st_size
    for time in range(1, _N_TRIES + 1):
        try:
            make_parent(system, there)
            system.put_file(str(path), there)
            if _is_there(system, path, there):
                return
        except OSError:
            if time == _N_TRIES:
                raise
    raise OSError(f"{there} is there with another size than the {n_bytes:,} bytes that were sent")


@contextlib.contextmanager
def _said(target: str) -> Iterator[None]:
    """Say what went wrong with a place, whatever its file system raises."""
    try:
        yield
    except StratosError:
        raise
    except Exception as error:  # each file system has its own errors
        raise StratosError(
            f"{redact(target)} cannot be used ({cause(error)}). Check the address, your "
            "credentials there, and that you may write to it."
        ) from error
