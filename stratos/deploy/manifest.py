"""What a bundle holds, by SHA-256, who made it and when, and questions of known answers."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from uuid import uuid4

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.core.foreign import cause
from stratos.core.formats import listed
from stratos.core.redact import redact, shown
from stratos.core.remote import file_system, make_parent, protocols, why_relative
from stratos.deploy.engines.base import EXPORTS
from stratos.deploy.signature import SUFFIX
from stratos.models.kinds.base import is_predictor
from stratos.tasks.base import Message

MANIFEST = "manifest.json"
SIGNATURE = f"{MANIFEST}{SUFFIX}"
KNOWN = "known_answers.jsonl"
N_KNOWN = 3


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle: of a language model, or of a student of another kind."""
    return (folder / "config.json").is_file() or is_predictor(folder)


def bundle_in(folder: Path) -> Path:
    """Return the bundle that a folder is, or that the run in it has made.

    Raises:
        StratosError: it is neither.
    """
    for path in (folder, folder / "bundle"):
        if is_bundle(path) and any(path.glob("*.safetensors")):
            return path.resolve()
    raise StratosError(
        f"{folder} holds no bundle: name the folder of a finished run (outputs/<run>) or its "
        "bundle. A run with deploy=none makes none; the same command without it does."
    )


@dataclass(frozen=True)
class Known:
    """A question of the test split with what the student answered in the evaluation."""

    messages: list[Message]
    text: str
    gold: str
    is_right: bool
    max_tokens: int
    """Room for an answer: the longest of the evaluation and a quarter."""
    request: dict[str, Any] | None = None
    """What a client sends in place of the messages, such as tools apart from them; None for these
    alone."""


def write_known(bundle: Path, known: Sequence[Known]) -> None:
    """Put questions into a bundle that tell a user, or a server's start, whether it is whole."""
    lines = [msgspec.json.encode(answer) + b"\n" for answer in known]
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


_EMPTY = "an empty folder"


def write_manifest(bundle: Path, author: str | None = None) -> None:
    """Write the SHA-256 of each file: the last thing that is done to a bundle.

    Args:
        bundle: its folder.
        author: who made it; None takes the name that git knows, or that of the login.

    Raises:
        StratosError: the bundle holds something other than files and folders.
    """
    for folder, _, _ in os.walk(bundle, topdown=False):
        if not os.listdir(folder):  # of an export that could not be made
            os.rmdir(folder)
    content = _content(bundle)
    if strange := [f"{name} is {kind}" for name, kind in content.items() if kind]:
        raise StratosError(f"{bundle} cannot be a bundle: {listed(strange)}. Delete it.")
    facts = {
        "author": author or _author(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": {name: digest_of(bundle / name) for name in content},
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    write_atomically(bundle / MANIFEST, text.encode())


def _author() -> str:
    """Return the name that git knows here, else that of the login; "" where there is neither."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "config", "user.name"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
        if name := done.stdout.strip():
            return name
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return ""


def made_by(bundle: Path) -> str:
    """Return who made a bundle and when, as its manifest says; "" where it says neither."""
    facts = json.loads((bundle / MANIFEST).read_bytes())
    author, date = facts.get("author"), facts.get("date")
    by = f" by {shown(str(author))}" if author else ""
    return f"Made{by}, {shown(str(date))}" if date else ""


def check_manifest(bundle: Path) -> int:
    """Compare the files of a bundle with its manifest; return how many there are.

    Raises:
        StratosError: there is no manifest, or files are missing, changed or beside it, or there
            are links, devices or empty folders.
    """
    named, content = _listing(bundle), _content(bundle)
    # A link is none of the bundle's files, whatever it leads to: that can change at any time.
    files = {name: digest_of(bundle / name) for name, kind in content.items() if not kind}
    wrong = [f"{name} is {kind}" for name, kind in content.items() if kind]
    wrong += [f"{name} is missing" for name in sorted(named.keys() - content.keys())]
    wrong += [f"{name} is not of it" for name in sorted(files.keys() - named.keys())]
    changed = [name for name in named.keys() & files if named[name] != files[name]]
    wrong += [f"{name} has changed" for name in sorted(changed)]
    if wrong:
        raise StratosError(
            f"{bundle} is not what was made: {listed(wrong)}. Copy it anew, or give the command of "
            "its run again."
        )
    return len(named)


def changed_files(bundle: Path, form: str) -> list[str]:
    """Return the files that are not as they were made, of those that serve a format.

    Args:
        bundle: its folder.
        form: export that is served; "" for the bundle's own weights.
    """
    named = _listing(bundle)
    files = [
        name for name in named
        if not name.startswith(f"{EXPORTS}/") or (form and name == f"{EXPORTS}/{form}.gguf")
    ]  # fmt: skip
    return [
        name for name in files
        if not (bundle / name).is_file() or digest_of(bundle / name) != named[name]
    ]  # fmt: skip


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


def _content(bundle: Path) -> dict[str, str]:
    """Return what lies below a bundle, by path: "" for a file, else what it is.

    Raises:
        StratosError: a folder cannot be read.
    """

    def refuse(error: OSError) -> NoReturn:
        raise StratosError(f"{bundle} cannot be read ({error}).") from error

    content = {}
    for folder, folders, files in os.walk(bundle, onerror=refuse):
        if not folders and not files:
            content[folder] = _EMPTY
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink():
                content[str(path)] = "a symbolic link"
            elif not path.is_dir():
                content[str(path)] = "" if path.is_file() else "neither a file nor a folder"
    for name in (MANIFEST, SIGNATURE):
        if content.get(str(bundle / name)) == "":  # a link or a folder is refused
            content.pop(str(bundle / name))
    return {Path(path).relative_to(bundle).as_posix(): content[path] for path in sorted(content)}


# Publish a bundle: to a folder, behind a URL of fsspec, or as a model repository of the hub.
#
# The manifest is taken away first and put there last, so that whoever reads one finds all files
# that it names; `stratos verify` compares each with its SHA-256.

HUB = "hf://"


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    url: str
    n_files: int
    was_there: bool
    """The same bundle was there already, and nothing was sent."""


def is_url(target: str) -> bool:
    """Return whether a target is not a path of this machine."""
    return "://" in target


def check_target(target: str) -> None:
    """Try whether a bundle can be put somewhere, before anything is made that would be.

    Raises:
        StratosError: it cannot; the message says why.
    """
    if target.startswith(HUB):
        repository_of(target)
        with _explained(target):
            _hub().whoami()
        return
    if (why := why_relative(target)) is not None:
        raise StratosError(f"{target}: {why}.")
    with _explained(target):
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
        tick: called with how many files are there, and of how many.

    Raises:
        StratosError: the bundle is not as it was made, or the target does not take it.
    """
    n_files = check_manifest(bundle)
    if target.startswith(HUB):
        return _push_to_hub(bundle, target, n_files)
    with _explained(target):
        system, root = _opened(target)
        manifest = f"{root}/{MANIFEST}"
        before = system.cat_file(manifest) if system.exists(manifest) else b""
        names = list(_content(bundle))
        if (bundle / SIGNATURE).is_file():
            names.append(SIGNATURE)
        _check_no_links(system, root, names)
        lacking = [name for name in names if not _is_there(system, bundle / name, f"{root}/{name}")]
        if before == (bundle / MANIFEST).read_bytes() and not {*lacking} - {SIGNATURE}:
            for name in lacking:  # it was signed since
                _put(system, bundle / name, f"{root}/{name}")
            return Pushed(target, n_files, was_there=True)
        if before:
            system.rm_file(manifest)
        # Those of an earlier bundle, whose signature is none of this one.
        for name in (_named_by(before) | {SIGNATURE}) - {MANIFEST, *names}:
            if not _leads_elsewhere(system, root, name) and system.exists(f"{root}/{name}"):
                system.rm_file(f"{root}/{name}")
        for n_sent, name in enumerate(names):
            if tick is not None:
                tick(n_sent, len(names))
            _put(system, bundle / name, f"{root}/{name}")
        _put(system, bundle / MANIFEST, manifest)
    return Pushed(target, n_files, was_there=False)


def fetched(url: str, folder: Path) -> Path:
    """Bring a bundle that was pushed into a folder; return it.

    Raises:
        StratosError: there is none, or it cannot be read.
    """
    with _explained(url):
        if url.startswith(HUB):
            from huggingface_hub import snapshot_download

            snapshot_download(repository_of(url), local_dir=folder)
            shutil.rmtree(folder / ".cache", ignore_errors=True)  # what the hub adds
            (folder / ".gitattributes").unlink(missing_ok=True)
            return folder
        system, root = _opened(url)
        if not system.exists(f"{root}/{MANIFEST}"):
            raise StratosError(
                f"{redact(url)} holds no bundle: there is no {MANIFEST}. A push that was cut short "
                "leaves none; the command of the run, given again, pushes it whole."
            )
        if {"http", "https"} & {*protocols(system)}:  # a web server lists no folder
            names = [*sorted(_named_by(system.cat_file(f"{root}/{MANIFEST}"))), MANIFEST]
            if system.exists(f"{root}/{SIGNATURE}"):
                names.append(SIGNATURE)
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                system.get_file(f"{root}/{name}", str(folder / name))
        else:
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
    with _explained(target):
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
    system, root = file_system(
        target if is_url(target) else str(Path(target).expanduser().absolute())
    )
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
        names = [PurePosixPath(name) for name in json.loads(manifest)["sha256"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()
    return {str(name) for name in names if not name.is_absolute() and ".." not in name.parts}


def _check_no_links(system: Any, root: str, names: Sequence[str]) -> None:
    """Check that nothing would be written outside of a target.

    Raises:
        StratosError: a link in it leads elsewhere.
    """
    if links := [name for name in (*names, MANIFEST) if _leads_elsewhere(system, root, name)]:
        raise StratosError(
            f"{root}: a symbolic link leads {listed(links)} out of it. Delete the link, or push "
            "to another folder."
        )


def _leads_elsewhere(system: Any, root: str, name: str) -> bool:
    """Return whether a link below a folder of this machine leads a path out of the folder."""
    if "file" not in protocols(system):
        return False
    return not Path(root, name).resolve().is_relative_to(Path(root).resolve())


def _put(system: Any, path: Path, there: str) -> None:
    make_parent(system, there)
    system.put_file(str(path), there)


@contextlib.contextmanager
def _explained(target: str) -> Iterator[None]:
    """Say what went wrong with a target, whatever its file system raises."""
    try:
        yield
    except StratosError:
        raise
    except Exception as error:  # each file system has its own errors
        raise StratosError(
            f"{redact(target)} cannot be used ({cause(error)}). Check the address, your "
            "credentials there, and that you may write to it."
        ) from error
