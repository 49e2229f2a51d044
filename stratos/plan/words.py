"""Why a plan leaves something out, or counts with less than there is: values and their words."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.counted import counted
from stratos.core.formats import right
from stratos.core.intervals import predicted
from stratos.core.reasons import Reason
from stratos.records import Interval


@dataclass(frozen=True)
class TooSlowHere(Reason):
    """A training on this machine takes longer than allowed, or more memory than there is."""

    tokens: int
    hours: float | None
    """None where it does not fit into the memory."""
    most_hours: float

    def __str__(self) -> str:
        takes = "needs more memory" if self.hours is None else f"takes about {self.hours:.3g} h"
        return (
            f"training it for {self.tokens:,} tokens {takes} on this machine, and "
            f"{self.most_hours:g} h are allowed: limits.train_hours=… allows more, "
            "trainer.max_tokens=… asks less"
        )


@dataclass(frozen=True)
class TooBig(Reason):
    """No server that is allowed holds a model."""

    verb: str
    """What it is to do: answer, train or serve."""
    gib: float
    largest: str
    largest_gib: float

    def __str__(self) -> str:
        return (
            f"needs {self.gib:.1f} GiB to {self.verb}, and no server that is allowed holds it (the "
            f"largest is {self.largest} with {self.largest_gib:.0f} GiB)"
        )


@dataclass(frozen=True)
class TooSmall(Reason):
    """A declared complexity asks for larger students."""

    n_params: int
    least_params: int
    level: str

    def __str__(self) -> str:
        return (
            f"its {self.n_params:,} parameters are below complexity.min_student_params="
            f"{self.least_params} (complexity={self.level})"
        )


@dataclass(frozen=True)
class NoEngine(Reason):
    """No engine of the choice runs on a server that is allowed."""

    engines: tuple[tuple[str, str], ...]
    """Each, and what it wants of a server and a model."""

    def __str__(self) -> str:
        wishes = "; ".join(f"{title} wants {wants}" for title, wants in self.engines)
        return f"none of deploy.engines serves it on a server that is allowed ({wishes})"


@dataclass(frozen=True)
class EngineLeftOut(Reason):
    """The plan does not choose from an engine."""

    title: str
    why: Reason

    def __str__(self) -> str:
        return f"The plan does not consider {self.title}. {self.why}"


@dataclass(frozen=True)
class LosesTooMuch(Reason):
    """What formats may lose would break the accuracy limit."""

    student: str
    losses: tuple[tuple[str, float], ...]
    """Each format, and its points of accuracy."""
    least_accuracy: float

    def __str__(self) -> str:
        formats = ", ".join(f"{name} ({points:g} points)" for name, points in self.losses)
        return (
            f"{self.student} is not served as {formats}: what these may lose of its accuracy would "
            f"break limits.accuracy={self.least_accuracy:g}."
        )


@dataclass(frozen=True)
class RepeatsRows(Reason):
    """A teacher could only repeat the answers of labelled rows."""

    teacher: str
    n_answers: int
    usd: float | None
    """What they would cost at least; None of a teacher whose weights are free."""

    def __str__(self) -> str:
        saved = (
            "only time, because its weights are free"
            if self.usd is None
            else f"${self.usd:.2f} at least"
        )
        return (
            "The training rows of the file have their answers, which supervised learns for "
            f"nothing. Asking {self.teacher} for them again takes "
            f"{counted(self.n_answers, 'answer', spec=',')}, {saved}, and can only repeat them."
        )


@dataclass(frozen=True)
class NodesUnknown(Reason):
    """Stages run on nodes of a cluster that are no offers of the plan."""

    executor: str
    cloud: str
    stages: tuple[str, ...]
    usd_per_hour: float | None

    def __str__(self) -> str:
        price = self.usd_per_hour
        at = "at its price" if price is None else f"at ${price:g} an hour (executor.usd_per_hour)"
        return (
            f"executor={self.executor} runs {' and '.join(self.stages)} on nodes of your cluster, "
            f"and the plan does not know them: with cloud={self.cloud} it chooses a server that is "
            f"never rented. Hours, dollars and latency are those of that server, {at}, without its "
            "start-up; limits are judged by them, and a job asks for as many GPUs as it has. Type "
            f"cloud={self.executor}: then the plan chooses among the nodes of the cluster."
        )


@dataclass(frozen=True)
class TooManyRequests(Reason):
    """No allowed mix of servers keeps up with the requests to a student."""

    requests_per_s: float
    max_nodes: int
    max_usd_per_hour: float | None
    has_quotas: bool

    def __str__(self) -> str:
        bounds = [f"{counted(self.max_nodes, 'server')} of a role (cloud.max_nodes)"]
        if self.max_usd_per_hour is not None:
            bounds.append(f"${self.max_usd_per_hour:g} an hour (cloud.max_usd_per_hour)")
        if self.has_quotas:
            bounds.append("the quotas of cloud.quotas")
        rate = counted(
            self.requests_per_s, "request a second is", "requests a second are", spec="g"
        )
        return f"{rate} more than its servers can answer within {' and '.join(bounds)}"


@dataclass(frozen=True)
class AlmostNothing(Reason):
    """A student would get almost nothing right, and another is better or may be."""

    accuracy: Interval
    other: str
    other_accuracy: float | None
    """None where the other starts from a model, and nobody knows what it may learn."""

    def __str__(self) -> str:
        if self.other_accuracy is not None:
            other = f", and {self.other} {self.other_accuracy:.1%}"
        else:
            other = f"; {self.other} starts from a model and may learn it"
        if self.accuracy.is_known:
            return f"it would get almost nothing right: {range_of(self.accuracy)}{other}"
        known = predicted(self.accuracy) if self.accuracy.tried is not None else "unknown"
        return f"its accuracy is {known}, and students like it learn almost nothing{other}"


@dataclass(frozen=True)
class HardlyLearnt(Reason):
    """A student is expected to learn next to nothing."""

    student: str
    accuracy: Interval
    n_rows: int | None
    """Training rows of the file; None where the task makes its own."""
    better_start: str
    """What would start from more: another student."""

    def __str__(self) -> str:
        rows = "" if self.n_rows is None else counted(self.n_rows, "training row", spec=",")
        of_rows = f" from {rows}" if rows else ""
        cures = [self.better_start, *(["more rows"] if rows else [])]
        cure = f"What may help: {'; '.join(cures)}. stages=[probe,plan] plans without a training."
        if self.accuracy.tried is not None:
            had = right(self.accuracy.tried)
            return f"{self.student} had {had}: it may hardly learn this task{of_rows}. {cure}"
        return (
            f"{self.student} is expected to answer {range_of(self.accuracy)} right: it hardly "
            f"learns this task{of_rows}. {cure}"
        )


def range_of(accuracy: Interval) -> str:
    """Write an accuracy with its range: "3.1% (0.0% to 9.4%)"."""
    return f"{accuracy.mean:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
