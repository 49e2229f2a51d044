"""What a bundle holds, by SHA-256, and questions whose answers are known."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.counted import listed
from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.tasks.base import Message

MANIFEST = "manifest.json"
KNOWN = "known_answers.jsonl"
N_KNOWN = 3


@dataclass(frozen=True)
class Known:
    """A question of the test split with what the student answered in the evaluation."""

    messages: list[Message]
    text: str
    gold: str
    is_right: bool
    max_tokens: int
    """Room for an answer: the longest of the evaluation and a quarter."""


def write_known(bundle: Path, known: Sequence[Known]) -> None:
    """Put questions into a bundle that tell a user, or a server's start, whether it is whole."""
    lines = [msgspec.json.encode(one) + b"\n" for one in known]
    write_atomically(bundle / KNOWN, b"".join(lines))


def read_known(bundle: Path) -> tuple[Known, ...]:
    """Return the questions of a bundle; none where it has no such file.

    Raises:
        StratosError: the file is damaged.
    """
    try:
        lines = (bundle / KNOWN).read_bytes().splitlines()
        return tuple(msgspec.json.decode(line, type=Known) for line in lines)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise StratosError(f"{bundle / KNOWN} cannot be read ({error}).") from error


def write_manifest(bundle: Path) -> None:
    """Write the SHA-256 of each file: the last thing that is done to a bundle.

    Raises:
        StratosError: the bundle holds something other than files and folders.
    """
    while (held := _Held.of(bundle)).empty:
        for name in held.empty:  # of an export that could not be made
            (bundle / name).rmdir()
    if held.other:
        told = listed([f"{name} is {what}" for name, what in sorted(held.other.items())])
        raise StratosError(f"{bundle} cannot be a bundle: {told}. Delete it.")
    files = {name: digest_of(bundle / name) for name in held.files}
    text = json.dumps({"sha256": files}, indent=1) + "\n"
    write_atomically(bundle / MANIFEST, text.encode())


def check_manifest(bundle: Path) -> int:
    """Compare the files of a bundle with its manifest; return how many there are.

    Raises:
        StratosError: there is no manifest, or files are missing, changed or beside it, or there
            are links, devices or empty folders.
    """
    told = _listing(bundle)
    held = _Held.of(bundle)
    here = {name: digest_of(bundle / name) for name in held.files}
    # A link is none of the bundle's files, whatever it leads to: that can change at any time.
    wrong = [f"{name} is {what}" for name, what in sorted(held.other.items())]
    wrong += [f"{name} is an empty folder" for name in sorted(held.empty)]
    wrong += [
        f"{name} is missing" for name in sorted(told.keys() - here.keys() - held.other.keys())
    ]
    wrong += [f"{name} is not of it" for name in sorted(here.keys() - told.keys())]
    wrong += [
        f"{name} has changed" for name in sorted(told.keys() & here) if told[name] != here[name]
    ]
    if wrong:
        raise StratosError(
            f"{bundle} is not what was made: {listed(wrong)}. Copy it anew, or give the command of "
            "its run again."
        )
    return len(told)


def _listing(bundle: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that the manifest names.

    Raises:
        StratosError: there is no manifest, or it is none.
    """
    path = bundle / MANIFEST
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError("it is no file")
        listing = json.loads(path.read_bytes())["sha256"]
        return {str(name): str(digest) for name, digest in listing.items()}
    except FileNotFoundError:
        raise StratosError(
            f"{bundle} has no {MANIFEST}: its making was cut short. Give the command of its run "
            "again."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StratosError(f"{path} cannot be read ({error!r}).") from error


def names_in(bundle: Path) -> list[str]:
    """Return all files of a bundle but its manifest, by path below it."""
    return _Held.of(bundle).files


@dataclass(frozen=True)
class _Held:
    """All that lies below a bundle's folder but its manifest, by path below it."""

    files: list[str]
    empty: list[str]
    """Folders with nothing in them."""
    other: dict[str, str]
    """What is neither file nor folder, and what it is."""

    @classmethod
    def of(cls, bundle: Path) -> _Held:
        """Look through a bundle; links are not followed.

        Raises:
            StratosError: a folder cannot be read.
        """
        held = cls([], [], {})
        try:
            for name, what in _walk(bundle):
                if name == MANIFEST:
                    continue
                if what == "a file":
                    held.files.append(name)
                elif what == "a folder":
                    held.empty.append(name)
                else:
                    held.other[name] = what
        except OSError as error:
            raise StratosError(f"{bundle} cannot be read ({error}).") from error
        held.files.sort()
        return held


def _walk(bundle: Path) -> Iterator[tuple[str, str]]:
    """Yield the path below a bundle, and the kind, of all but folders that hold something."""
    folders = [bundle]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            found = list(entries)
        if not found and folder != bundle:
            yield folder.relative_to(bundle).as_posix(), "a folder"
        for entry in found:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
                continue
            if entry.is_symlink():
                kind = "a symbolic link"
            else:
                is_file = entry.is_file(follow_symlinks=False)
                kind = "a file" if is_file else "neither a file nor a folder"
            yield path.relative_to(bundle).as_posix(), kind
