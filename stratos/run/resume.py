"""Resume: stage records with fingerprints of their inputs.

A record lies in the run folder with the fingerprint of all that it was made from: the part of the
config that its stage reads, the records before it, and the versions of the code. Where all three
are as they were, and the files that the record names are still there, the stage is not run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec

from stratos import records
from stratos.cli.rules import local_files
from stratos.config import Config
from stratos.core.digest import digest_of, digest_of_code, digest_of_path, files_in
from stratos.core.errors import StratosError
from stratos.core.foreign import cause
from stratos.core.formats import counted, listed
from stratos.core.reasons import Because, Reason
from stratos.deploy.engines.base import Engine
from stratos.records import Envelope, FileMark


def marks_of(record: Any, folder: Path) -> dict[str, FileMark]:
    """Return the mark of every file that a record names, or that lies in a folder it names."""
    marks: dict[str, FileMark] = {}
    for value, named in _paths_in(record, folder):
        for path in [named] if named.is_file() else sorted(named.rglob("*")):
            if path.is_file():
                key = Path(value) / path.relative_to(named)
                status = path.stat()
                marks[key.as_posix()] = FileMark(
                    status.st_size, status.st_mtime_ns, digest_of(path)
                )
    return marks


def _paths_in(record: Any, folder: Path) -> Iterator[tuple[str, Path]]:
    """Return what a record names, as it is written there and where it lies."""
    for entry in dataclasses.fields(record):
        value = getattr(record, entry.name)
        if value and (entry.name == "path" or entry.name.endswith("_path")):
            yield value, folder / value


def missing(record: Any, folder: Path) -> Path | None:
    """Return the first file or folder that a record names and that is not there; else None."""
    for _, named in _paths_in(record, folder):
        if not named.exists():
            return named
    return None


def changed(
    files: Mapping[str, FileMark], folder: Path, *, by_content: bool = False
) -> Reason | None:
    """Return the first file that is not what it was, and how; None if all are.

    Args:
        files: mark of each file by its path.
        folder: what paths are relative to.
        by_content: read all of them, whatever their sizes and times say.
    """
    for name, mark in files.items():
        path = folder / name
        try:
            how = _how(path, mark, by_content)
        except OSError as error:
            how = f"cannot be read ({cause(error)})"
        if how:
            return Because(f"{path}, which {how}")
    return None


def _how(path: Path, mark: FileMark, by_content: bool) -> str:
    """Return how a file differs from what it was; "" where it does not."""
    if not path.is_file():
        return "is no longer a file" if path.exists() else "is gone"
    status = path.stat()
    if status.st_size != mark.n_bytes:
        return f"has {status.st_size:,} bytes, not {mark.n_bytes:,}"
    is_same = status.st_mtime_ns == mark.mtime_ns and not by_content
    return "" if is_same or digest_of(path) == mark.sha256 else "has changed since it was written"


def opened_in(path: Path) -> Envelope:
    """Read the envelope of a record, with the files that it names where they lie now.

    Raises:
        FormatError: it is of another format.
        EditedError: it is not as it was written.
        msgspec.DecodeError: it is no envelope.
        OSError: it cannot be read.
    """
    envelope = records.opened(path.read_bytes())
    old, new = envelope.folder, str(path.parent)
    if old == new:
        return envelope
    record = _moved(msgspec.json.decode(envelope.record), old, new)
    files = {_moved(name, old, new): mark for name, mark in envelope.files.items()}
    return dataclasses.replace(
        envelope, record=msgspec.Raw(msgspec.json.encode(record)), files=files
    )


def _moved(node: Any, old: str, new: str) -> Any:
    """Return plain values in which what lay below one folder lies below another."""
    if isinstance(node, dict):
        return {key: _moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_moved(value, old, new) for value in node]
    if not isinstance(node, str) or old not in node:
        return node
    if _is_below(node, old):
        return new + node[len(old) :]
    try:
        words = shlex.split(node)
    except ValueError:  # it is no command
        return node
    if not any(_is_below(word, old) for word in words):
        return node
    return shlex.join(new + word[len(old) :] if _is_below(word, old) else word for word in words)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


T = TypeVar("T")

_MOST_NAMED = 3
"""Inputs that are named where several have changed."""


@dataclass(frozen=True)
class Stage(Generic[T]):
    """One stage: what it makes, what its outcome depends on, and how a run treats it."""

    name: str
    function: str
    """Where its function is, as "module:name": its module is imported when it is called."""
    record: type[T]
    reads: tuple[str, ...]
    """Keys of the config that it reads, as "group" or "group.key"; the key of each candidate, where
    the group has several."""
    version: int = 1
    """Raised when its code makes another record of the same inputs."""
    after: tuple[str, ...] = ()
    """Stages whose records it needs."""
    uses: tuple[str, ...] = ()
    """Stages whose records it takes where there are any."""
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage to the fields of its record that matter here; a change of the others does not."""
    remembers: tuple[str, ...] = ()
    """Fields of its own record that hold what it saw outside of config and records."""
    is_part_of: str = ""
    """A stage that brings this one with it; "" for one that the user asks for by name."""
    is_on: Callable[[Config], bool] = lambda config: True
    """Whether a config has it made at all."""
    own_limit: Literal["", "probe_usd"] = ""
    """The key of `limits` that caps what it may spend, besides the budget."""
    forgets_plan: bool = False
    """Whether what an earlier plan holds of the budget is free as soon as it begins."""
    spends_plan: bool = False
    """Whether it spends what the plan holds of the budget."""
    releases: tuple[str, ...] = ()
    """Roles that nobody pays for any more once it is done."""
    has_engine: bool = False
    """Whether its work may be spread over a cluster."""
    is_shared_by_jobs: bool = False
    """Whether jobs of a sweep that would ask the same do so one by one: the cache serves all."""

    @property
    def works_on_task(self) -> bool:
        """Whether it reads items of the task."""
        return "task" in self.reads


@dataclass(frozen=True)
class StoredRecord:
    """A record that was found, or why the file that should hold it is of no use."""

    record: Any = None
    fingerprint: str = ""
    trouble: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """What it was made from, by name, each as a short digest; none where nobody compares it."""


SEEN = "what other runs have left"
"""Name of what a record remembers itself."""


def fingerprint(
    stage: Stage[Any],
    config: Config,
    made: dict[str, Any],
    marks: dict[str, str],
    own: Any = None,
) -> str:
    """Return the SHA-256 of everything that a stage's record is made from; see `inputs_of`."""
    return _sha256(inputs_of(stage, config, made, marks, own))


def inputs_of(
    stage: Stage[Any],
    config: Config,
    made: dict[str, Any],
    marks: dict[str, str],
    own: Any = None,
) -> dict[str, Any]:
    """Return everything that a stage's record is made from.

    Args:
        stage: the stage.
        config: the run's config, of which the stage's part counts.
        made: stage name to the record, of every stage that has one.
        marks: stage name to that record's own fingerprint.
        own: the stage's own record, of which what it remembers counts.
    """
    subset = {key: _select(config.plain, key) for key in stage.reads}
    upstream = {
        name: [getattr(made[name], part) for part in stage.only[name]]
        if name in stage.only
        else marks[name]
        for name in (*stage.after, *stage.uses)
        if name in made
    }
    return {
        "config": subset,
        "files": _files(subset),
        "upstream": upstream,
        "versions": _versions(stage, config),
        "user_code": digest_of_code(
            config.task, *config.task.parts, *config.teachers, *config.strategies
        ),
        "seen": [getattr(own, name) for name in stage.remembers if own is not None],
    }


def task_inputs(config: Config) -> dict[str, str]:
    """Return the task's own part of what a record is made from, as `named` names it."""
    task = {"task": config.plain.get("task")}
    return _named(task, _files(task))


def files_of(stage: Stage[Any], config: Config) -> tuple[Path, ...]:
    """Return the files and folders that a stage reads outside of the run folder, absolute."""
    keys = (*stage.reads, "cloud.gpu_file", "paths.records_from")
    files: list[Path] = []
    for _, path in local_files({key: _select(config.plain, key) for key in keys}):
        files += [path] if path.exists() else map(Path, glob(str(path), recursive=True))
    for name in (*stage.after, *stage.uses):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            envelope = opened_in(config.run_dir / f"{name}.json")
            files += [config.run_dir / name for name in envelope.files]
    absolute = dict.fromkeys(path.absolute() for path in files)
    return tuple(path for path in absolute if not path.is_relative_to(config.run_dir.absolute()))


def _files(subset: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the key and the digest of each file that a part of the config names."""
    files = [(key, digest_of_path(path)) for key, path in local_files(subset)]
    # A task of the user's own may name its rows by any key.
    return files + [("task", digest_of(path)) for path in files_in(subset.get("task"))]


def named(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return what a record is made from by the names that a user knows, each as a short digest.

    Six digits tell a change, and not what the value was.
    """
    more = {
        **{f"the record of {stage}": mark for stage, mark in inputs["upstream"].items()},
        **{f"the version of {name}": version for name, version in inputs["versions"].items()},
        "code of your own": inputs["user_code"],
        SEEN: inputs["seen"],
    }
    return _named(inputs["config"], inputs["files"], more)


def _named(
    config: Any, marked: Sequence[tuple[str, Any]], more: Mapping[str, Any] | None = None
) -> dict[str, str]:
    files: dict[str, list[Any]] = defaultdict(list)
    for key, mark in marked:
        files[f"{records.CONTENT_OF}{key}"].append(mark)
    leaves = {**dict(_leaves(config)), **files, **(more or {})}
    return {name: _sha256(value)[:6] for name, value in leaves.items()}


def what_changed(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Say which inputs of a record are other ones now, the first three by name."""
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    if not names:
        return "its inputs have changed"
    shown, rest = names[:_MOST_NAMED], len(names) - _MOST_NAMED
    if rest > 0:
        shown.append(counted(rest, "other input"))
    return f"{listed(shown)} {'have' if len(names) > 1 else 'has'} changed"


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _versions(stage: Stage[Any], config: Config) -> dict[str, int]:
    """Return the version of a stage, and of each class that the config names for it."""
    read = {key.partition(".")[0] for key in stage.reads}
    versions = {stage.name: stage.version}
    if "task" in read:
        versions[type(config.task).__name__] = config.task.code_version
    if "teacher" in read:
        versions |= {type(teacher).__name__: teacher.code_version for teacher in config.teachers}
    if "strategy" in read:
        versions |= {type(each).__name__: each.code_version for each in config.strategies}
    engines: list[Engine] = []
    if "deploy.engines" in stage.reads:
        engines += config.deploy.engines.values()
    if "deploy.engine" in stage.reads and config.deploy.engine is not None:
        engines.append(config.deploy.engine)
    return versions | {type(engine).__name__: engine.code_version for engine in engines}


def _select(plain: dict[str, Any], key: str) -> Any:
    """Return a group of the config, or a key of it: where it has candidates, that of each."""
    group, _, name = key.partition(".")
    node = plain.get(group)
    if not name or node is None:
        return node
    several = node.get("candidates")
    if name != "candidates" and isinstance(several, Mapping):
        return {candidate: fields.get(name) for candidate, fields in several.items()}
    return node.get(name)


def find(stage: Stage[T], folder: Path) -> StoredRecord | None:
    """Read the record of a stage in `folder`; None if there is no such file.

    Raises:
        StratosError: it was written by other code, or changed since it was written.
    """
    folder = folder.absolute()  # what the record names lies in it, whatever it was typed as
    path = folder / f"{stage.name}.json"
    try:
        envelope = opened_in(path)
        record = records.from_json(bytes(envelope.record), stage.record)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except records.FormatError as error:
        raise StratosError(
            f"{folder} was made by another version of Stratos: start anew in another folder, with "
            "hydra.run.dir=<folder>."
        ) from error
    except records.EditedError as error:
        raise StratosError(
            f"{path}: {error}, so it is not used. {_again(stage.name, folder)}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return StoredRecord(trouble=f"{path} is corrupt ({error})")
    except OSError as error:
        return StoredRecord(trouble=f"{path} cannot be read ({cause(error)})")
    change = changed(envelope.files, folder)
    if change is not None:
        return StoredRecord(trouble=f"{path} names {change}")
    # A folder that was gone when the record was written has no marks.
    if (gone := missing(record, folder)) is not None:
        return StoredRecord(trouble=f"{path} names {gone}, which is gone")
    return StoredRecord(record, envelope.fingerprint, "", envelope.inputs)


def keep(
    stage: Stage[T],
    folder: Path,
    mark: str,
    record: T,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write the record of a stage with its fingerprint, atomically."""
    files = marks_of(record, folder)
    records.save(folder / f"{stage.name}.json", stage.name, mark, record, files, inputs)


def verify(name: str, folder: Path) -> None:
    """Read all that the record of a stage names, before another stage works with it.

    Args:
        name: of the stage.
        folder: where its record lies.

    Raises:
        StratosError: a file is not what it was when the record was written.
    """
    path = folder / f"{name}.json"
    try:
        files = opened_in(path).files
    except (OSError, msgspec.DecodeError):  # was read a moment ago
        return
    change = changed(files, folder, by_content=True)
    if change is not None:
        raise StratosError(f"{path} names {change}. {_again(name, folder)}")


def _again(name: str, folder: Path) -> str:
    """Say how a stage is run again in whole."""
    return (
        f"Delete {folder / name}.json and give the same command again: {name} runs again, with all "
        "that depends on it."
    )
