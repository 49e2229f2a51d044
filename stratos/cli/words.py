"""Why a command line cannot be run, as values."""

from __future__ import annotations

import shlex

from stratos.core.formats import shown
from stratos.core.reasons import Reason


class FileTyped(Reason):
    """A file of rows is typed where an override or a verb is expected."""

    path: str

    def __str__(self) -> str:
        path = shlex.quote(self.path)
        override = shlex.quote(f"task.path={self.path}")
        return (
            f"{shown(self.path)}: a file is given as task.path. Type stratos run +task=classify "
            f"{override}, or stratos look {path}, which tells what is in it and what to type."
        )


def file_typed(word: str) -> FileTyped | None:
    """Return that a word is the path of a file of rows; None where it is none."""
    from stratos.tasks.files import ROW_SUFFIXES, name_of  # not needed by a verb

    is_file = name_of(word).endswith(ROW_SUFFIXES) and "=" not in word
    return FileTyped(word) if is_file else None


class RunFolderElsewhere(Reason):
    """A run is to work behind a URL.

    Args:
        url: that `paths.run_dir` was given.
        key: that names the folder of a run.
    """

    url: str
    key: str

    says = (
        "paths.run_dir={url}: a run works in a folder of this machine. Type "
        "paths.mirror={url}, which keeps a copy there and goes on from it, and "
        "{key}=<folder>."
    )


class RunFolderNotOfHydra(Reason):
    """A run is to work in another folder than Hydra, which keeps its config there.

    Args:
        path: that `paths.run_dir` was given.
        key: that names the folder of a run.
    """

    path: str
    key: str

    says = "paths.run_dir={path}: Hydra names the folder of a run. Type {key}={path}."


class UnusableFolder(Reason):
    """The folder of a run cannot be made or written."""

    key: str
    folder: str
    cause: Reason

    def __str__(self) -> str:
        return (
            f"{self.key}={shown(self.folder)}: {self.cause}. Give another folder: "
            f"{self.key}=<folder>."
        )


class NoRunFolder(Reason):
    """Records are to be read from what is no folder."""

    says = "it is not a folder. Name the folder of a run"


class NoFileSetsKey(Reason):
    """A key has a default in code and stands in no file, so that Hydra wants a +."""

    key: str
    override: str

    says = "no file sets {key} so far. Write it with a +: +{override}"


class NothingToFit(Reason):
    """A cut is asked for, and the student has no model that could be cut so."""

    key: str
    override: str

    says = (
        "{key} cuts the model that a student starts from, and this one has none that can be cut "
        "so. Leave it out, or name one: student=smollm2_135m {override}"
    )


class IsMapping(Reason):
    """A key is one of a mapping, which is set, or added to, as a whole.

    Args:
        mapping: key of the whole.
        entries: as they are typed.
        n_there: entries that it has; None where it is null.
        is_entry: one entry was named, not the whole.
    """

    mapping: str
    entries: str
    n_there: int | None
    is_entry: bool = True

    def __str__(self) -> str:
        if self.n_there is None:
            return f"to set it, type '{self.mapping}={self.entries}'"
        do = "to add an entry"
        if not self.is_entry:
            do = "it has entries already. To add to them" if self.n_there else "to add entries"
        return f"{do}, type '+{self.mapping}={self.entries}'"


class IsOfCandidate(Reason):
    """A key was set of what the plan takes from several."""

    owner: str
    typed: str

    says = "the plan chooses {owner}. To set a key of a candidate, type '{typed}'"


class IsValue(Reason):
    """A value was taken for the owner of a key.

    Args:
        key: of the value.
        typed: what was probably meant; "" where that is not known.
    """

    key: str
    typed: str

    def __str__(self) -> str:
        meant = f" Type {self.typed}" if self.typed else ""
        return f"{self.key} is a value and has no keys.{meant}"


class NoKey(Reason):
    """A node of the config has no such key.

    Args:
        owner: the node; "" for the config itself.
        key: that was typed.
        hint: sentences, with a space before them.
    """

    owner: str
    key: str
    hint: str

    def __str__(self) -> str:
        return f"{self.owner or 'the config'} has no key {self.key}.{self.hint}"


class KindUnsuited(Reason):
    """A student of a kind that does not do the task is named."""

    student: str
    kind: str
    answers: str
    """What the kind answers with."""
    task: str
    able: tuple[str, ...]

    def __str__(self) -> str:
        able = f", or one of {', '.join(self.able)}" if self.able else ""
        return (
            f"student {self.student}: a {self.kind} student answers with {self.answers}, and so do "
            f"no answers of the task {self.task}. Type student=auto{able}."
        )


class KindTwice(Reason):
    """Two candidates are of one kind that is no language model."""

    kind: str
    says = (
        "student: two candidates are of the kind {kind}, of which a run compares one. Run each by "
        "itself, and compare the runs: stratos compare <run> <run>."
    )
