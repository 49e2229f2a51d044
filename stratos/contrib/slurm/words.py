"""Why something cannot be done with SLURM."""

from __future__ import annotations

from collections.abc import Mapping

from stratos.core import extras
from stratos.core.errors import did_you_mean
from stratos.core.reasons import Reason


class NoSbatch(Reason):
    """This machine is no login node."""

    says = (
        "executor=slurm: there is no sbatch on the PATH, so that this machine cannot submit to "
        "SLURM. Give the command on a login node of the cluster, or type executor=here."
    )


class NoSubmitit(Reason):
    """The package that writes batch scripts is not installed."""

    def __str__(self) -> str:
        return f"executor=slurm: submitit is not installed. Type: {extras.install('slurm')}"


class Silent(Reason):
    """SLURM does not answer."""

    error: str
    """In its own words."""

    says = "executor=slurm: SLURM does not answer ({error}). Try sinfo, or type executor=here."


class NoPartition(Reason):
    """The cluster has no partition of that name."""

    partition: str
    """As it is set: one, or several with commas."""
    unknown: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"executor.partition={self.partition}: there is no partition {self.unknown}."
            f"{did_you_mean(self.unknown, self.known)} There are: {', '.join(self.known)}."
        )


class TooFewHours(Reason):
    """A job would be told to save before it has started."""

    hours: float
    least_hours: float
    saves_s: float
    """Seconds before its limit at which a job is told to save."""

    says = (
        "executor.hours={hours:g}: a job is told to save {saves_s:g} s before its "
        "limit, and has to start before that. Type executor.hours="
        "{least_hours:g} or more."
    )


class TooManyHours(Reason):
    """The partition lets no job run for so long."""

    hours: float
    most_hours: float

    says = (
        "executor.hours={hours:g}: the partition lets a job run {most_hours:g} h. "
        "Type executor.hours={most_hours:g}: a job that reaches it goes back into the "
        "queue and on from its checkpoint, executor.max_timeouts times."
    )


class NoNodeTakes(Reason):
    """No node has what the settings ask for."""

    request: Mapping[str, str | float]
    """Setting to its value."""
    refusal: str
    """In SLURM's words."""

    def __str__(self) -> str:
        typed = " ".join(f"executor.{key}={value}" for key, value in self.request.items())
        keys = " or ".join(f"executor.{key}" for key in self.request)
        return (
            f"{typed}: no node of SLURM can take such a job ({self.refusal}). See sinfo -o "
            f"'%P %D %c %m %G' for what nodes have, and change {keys}, or executor.partition."
        )
