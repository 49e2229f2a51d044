"""What a bundle holds, by SHA-256, and questions whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def write_known(bundle: Path, known: Sequence[Known]) -> None:
    """Put questions into a bundle that tell a user, or a server's start, whether it is whole."""
    lines = [msgspec.json.encode(one) + b"\n" for one in known]
    write_atomically(bundle / KNOWN, b"".join(lines))


def read_known(bundle: Path) -> tuple[Known, ...]:
    """Return the questions of a bundle; none of one that earlier versions made.

    Raises:
        StratosError: the file is damaged.
    """
    try:
        lines = (bundle / KNOWN).read_bytes().splitlines()
        return tuple(msgspec.json.decode(line, type=Known) for line in lines)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(f"{bundle / KNOWN} cannot be read ({error}).") from error


def write_manifest(bundle: Path) -> None:
    """Write the SHA-256 of each file: the last thing that is done to a bundle."""
    files = {name: digest_of(bundle / name) for name in names_in(bundle)}
    text = json.dumps({"sha256": files}, indent=1) + "\n"
    write_atomically(bundle / MANIFEST, text.encode())


def check_manifest(bundle: Path) -> int:
    """Compare the files of a bundle with its manifest; return how many there are.

    Raises:
        StratosError: there is no manifest, or files are missing, changed or beside it.
    """
    try:
        listing = json.loads((bundle / MANIFEST).read_bytes())["sha256"]
        told = {str(name): str(digest) for name, digest in listing.items()}
    except FileNotFoundError:
        raise StratosError(
            f"{bundle} has no {MANIFEST}: it was made by an earlier version, or its making was cut "
            "short. Give the command of its run again."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StratosError(f"{bundle / MANIFEST} cannot be read ({error!r}).") from error
    here = {name: digest_of(bundle / name) for name in names_in(bundle)}
    wrong = [f"{name} is missing" for name in sorted(told.keys() - here.keys())]
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


def names_in(bundle: Path) -> list[str]:
    """Return all files of a bundle but its manifest, by path below it."""
    return sorted(
        path.relative_to(bundle).as_posix()
        for path in bundle.rglob("*")
        if path.is_file() and path.name != MANIFEST
    )
