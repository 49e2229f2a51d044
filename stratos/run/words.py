"""The reasons of a run: where its stages go, and why its folder cannot be used."""

from __future__ import annotations

from pathlib import Path

from stratos.core.formats import shown, usd
from stratos.core.reasons import Reason
from stratos.records import Interval


class OtherTask(Reason):
    """A run folder holds the records of another task."""

    folder: Path
    name: str
    """Of the other task; "" where it is not known."""
    path: str
    """Its file; "" where it is not known."""
    key: str
    """That names the folder."""

    def __str__(self) -> str:
        on = f" on {shown(self.path)}" if self.path else ""
        return (
            f"{shown(str(self.folder))}: it holds a run of another task, "
            f"{shown(self.name) or 'of an unknown name'}{on}, which this run would overwrite. "
            f"Leave {self.key} out for a new folder, or type {self.key}=<another folder>. If you "
            "do not need that run any more, delete its folder first."
        )


class FolderMissing(Reason):
    """The run folder was deleted."""

    says = "there is no such folder"


class FolderReplaced(Reason):
    """Another folder has the name of the run folder."""

    says = "another folder is in its place"


class FileMissing(Reason):
    """A file of the run folder was deleted."""

    name: str

    says = "{name} is not there any more"


class AsksOverNetwork(Reason):
    """A stage asks hosted teachers, whose keys no job gets."""

    teachers: tuple[str, ...]

    def __str__(self) -> str:
        names = " and ".join(self.teachers)
        return f"it asks {names} over the network, and keys stay on this machine"


class NothingDeployed(Reason):
    """The run deploys nothing."""

    says = "deploy=none leaves nothing to do"


class NoServer(Reason):
    """The plan rents nothing for a stage."""

    says = "the plan has no server for it"


class MoreMoney(Reason):
    """A stage left out what it may now pay for."""

    before_usd: float
    """At which it stopped."""
    now_usd: float | None
    """That it may spend now; None for no limit."""

    def __str__(self) -> str:
        now = "has no limit" if self.now_usd is None else f"may spend {usd(self.now_usd)}"
        return f"it stopped at {usd(self.before_usd)} and now {now}"


class LimitMissed(Reason):
    """What is served falls short of `limits.accuracy`."""

    limit: float
    accuracy: Interval
    format: str
    """In which it is served; "" for the student as it was evaluated."""
    whole: float
    """Accuracy in full precision."""

    def __str__(self) -> str:
        who = f"the student as it is served ({self.format})" if self.format else "the student"
        more = "The plan used a prediction."
        if self.format and self.whole >= self.limit:
            more = f"In full precision it has {self.whole:.1%}."
        return (
            f"limits.accuracy={self.limit:g} is not met: {who} has {self.accuracy.mean:.1%} of "
            f"the test items (95% interval {self.accuracy.low:.1%} to {self.accuracy.high:.1%}). "
            f"{more}"
        )
