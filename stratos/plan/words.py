"""The reasons of the plan as values, each with its sentence.

Why the planner leaves a choice out and what it warns of, why a model is no alternative to the
student, and what speaks for and against the verdict on distilling.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from stratos.catalog.table import LOCAL
from stratos.core.formats import (
    counted,
    duration,
    hours,
    listed,
    milliseconds,
    percent,
    percent_most,
    percent_range,
    predicted,
    right,
    usd,
)
from stratos.core.reasons import Reason
from stratos.plan.payback import Outcome
from stratos.records import Interval, ModelScore, RoleChoice, ScaledToZero

# Why the planner leaves a choice out, and what it warns of.


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


class TooBig(Reason):
    """No server that is allowed holds a model."""

    verb: str
    """What it is to do: answer, train or serve."""
    gib: float
    largest: str
    largest_gib: float

    says = (
        "needs {gib:.1f} GiB to {verb}, and no server that is allowed holds it (the "
        "largest is {largest} with {largest_gib:.0f} GiB)"
    )


class LearnsRows(Reason):
    """A student that is no language model learns nothing but rows with their answers."""

    student: str

    says = (
        "{student} learns the labelled rows themselves: strategy=supervised, or pseudo_labels with "
        "a teacher and rows without a label"
    )


class TooSmall(Reason):
    """A declared complexity asks for larger students."""

    n_params: int
    least_params: int
    level: str

    says = (
        "its {n_params:,} parameters are below complexity.min_student_params="
        "{least_params} (complexity={level})"
    )


class NoEngine(Reason):
    """No engine of the choice runs on a server that is allowed."""

    engines: tuple[tuple[str, str], ...]
    """Each, and what it wants of a server and a model."""

    def __str__(self) -> str:
        wishes = "; ".join(f"{title} wants {wants}" for title, wants in self.engines)
        return f"none of deploy.engines serves it on a server that is allowed ({wishes})"


class EngineLeftOut(Reason):
    """The plan does not choose from an engine."""

    title: str
    why: Reason

    says = "The plan does not consider {title}. {why}"


class CutBrings(Reason):
    """What a cut vocabulary changes of a student that is offered whole, and cut."""

    student: str
    mb: tuple[float, float]
    """Of the bundle's weights."""
    hours: tuple[float, float]
    """Of the training."""
    latencies_ms: tuple[float, float]
    usd: tuple[float, float]
    accuracies: tuple[Interval, Interval]
    fits: tuple[bool, bool]
    """Whether a plan with it meets the limits."""

    def __str__(self) -> str:
        pairs = (
            (
                "float32 weights",
                [f"{mb:,.0f} MB" if mb >= 10 else f"{mb:.2g} MB" for mb in self.mb],
            ),
            ("training", [hours(each) for each in self.hours]),
            ("p95", [milliseconds(ms) for ms in self.latencies_ms]),
            ("cost", [usd(dollars) for dollars in self.usd]),
            ("accuracy", [predicted(accuracy) for accuracy in self.accuracies]),
        )
        brings = ", ".join(f"{name} {whole} → {cut}" for name, (whole, cut) in pairs)
        text = f"Cutting the vocabulary of {self.student} to the task's rows: {brings}."
        if all(self.fits):
            return text
        without = "the whole one" if self.fits[1] else "the cut one"
        return f"{text} No plan with {without} meets the limits."


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


class RepeatsRows(Reason):
    """A teacher could only repeat the answers of labelled rows."""

    teacher: str
    n_answers: int
    usd: float | None
    """What they would cost at least; None of a teacher whose weights are free."""

    def __str__(self) -> str:
        is_free = "only time, because its weights are free"
        return (
            "The training rows of the file have their answers, which supervised learns for "
            f"nothing. Asking {self.teacher} for them again takes "
            f"{counted(self.n_answers, 'answer', spec=',')}, "
            f"{is_free if self.usd is None else f'${self.usd:.2f} at least'}, and can only repeat "
            "them."
        )


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


class AlmostNothing(Reason):
    """A student would get almost nothing right, and another is better or may be."""

    accuracy: Interval
    other_student: str
    other_accuracy: float | None
    """None where the other starts from a model, and nobody knows what it may learn."""

    def __str__(self) -> str:
        better = f"; {self.other_student} starts from a model and may learn it"
        if self.other_accuracy is not None:
            better = f", and {self.other_student} {self.other_accuracy:.1%}"
        if self.accuracy.is_known:
            return f"it would get almost nothing right: {range_of(self.accuracy)}{better}"
        known = predicted(self.accuracy) if self.accuracy.tried is not None else "unknown"
        return f"its accuracy is {known}, and students like it learn almost nothing{better}"


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
        cures = "; ".join([self.better_start, *(["more rows"] if rows else [])])
        cure = f"What may help: {cures}. stages=[probe,plan] plans without a training."
        if self.accuracy.tried is not None:
            had = right(self.accuracy.tried)
            return f"{self.student} had {had}: it may hardly learn this task{of_rows}. {cure}"
        return (
            f"{self.student} is expected to answer {range_of(self.accuracy)} right: it hardly "
            f"learns this task{of_rows}. {cure}"
        )


class RowsNotLabelled(Reason):
    """Rows without a label are not learnt."""

    n: int
    why: tuple[str, ...]

    def __str__(self) -> str:
        rows = counted(self.n, "row without a label is", "rows without a label are", spec=",")
        because = f": {'; '.join(self.why)}" if self.why else ""
        return f"{rows} not used{because}."


class FreeServers(Reason):
    """Servers of one's own count as $0 an hour."""

    clouds: tuple[str, ...]

    def __str__(self) -> str:
        names = [
            "this machine" if cloud == LOCAL else f"a node of {cloud}" for cloud in self.clouds
        ]
        keys = ["cloud.usd_per_cpu_hour=<dollars per core>"]
        if {*self.clouds} - {LOCAL}:
            keys.append("cloud.usd_per_gpu_hour=<dollars per GPU>")
        count = f"{listed(names)} {'counts' if len(names) == 1 else 'count'} as $0 an hour"
        return f"{count[0].upper()}{count[1:]}. To give it a price: {' '.join(keys)}."


def free_servers(roles: Iterable[RoleChoice]) -> FreeServers | None:
    """Return which servers of one's own count as $0 an hour in a plan; None where none does."""
    clouds = dict.fromkeys(
        role.offer.cloud
        for role in roles
        if role.offer is not None and not role.offer.is_rented and not role.offer.usd_per_hour
    )
    return FreeServers(tuple(clouds)) if clouds else None


class WithoutModel(Reason):
    """A baseline without a model answers much of the validation rows."""

    baseline: ModelScore

    def __str__(self) -> str:
        exact, n = self.baseline.slice().exact, self.baseline.slice().n_items
        return (
            f"Without a model, {self.baseline.name} answers {exact.mean:.1%} of "
            f"{counted(n, 'validation row')} (95% interval {exact.low:.1%} to {exact.high:.1%})."
        )


class NeedsNoModel(WithoutModel):
    """A baseline without a model answers so much that the student has to beat it."""

    def __str__(self) -> str:
        return f"{super().__str__()} Compare before you train: a student has to beat that."


# Why a model is no alternative to the student, or may be none.


class _OfAccuracy(Reason):
    """A reason that lies in an accuracy."""

    accuracy: Interval

    @property
    def shown(self) -> str:
        """The accuracy with its ends."""
        ends = percent_range(self.accuracy.low, self.accuracy.high)
        return f"{percent(self.accuracy.mean)} ({ends})"


class NotProbed(Reason):
    """Nothing is known of its accuracy."""

    says = "its accuracy is not known: it was not probed"


class BelowLimit(_OfAccuracy):
    """All of its interval is below `limits.accuracy`."""

    says = "{shown}, below limits.accuracy"


class AtMostBelowLimit(_OfAccuracy):
    """What a log cannot disprove is below `limits.accuracy`."""

    @property
    def shown(self) -> str:
        """The accuracy as the upper bound that it is."""
        ends = percent_range(self.accuracy.low, self.accuracy.high)
        return f"{percent_most(self.accuracy.mean)} ({ends})"

    says = "at most {shown}, below limits.accuracy"


class MayBeBelowLimit(_OfAccuracy):
    """Its interval straddles `limits.accuracy`."""

    says = "{shown} may be below limits.accuracy"


class SurelyWorse(_OfAccuracy):
    """All of its interval is below that of the student."""

    says = "{shown}, surely less accurate"


class NextToNothing(_OfAccuracy):
    """It does not do the task."""

    says = "{shown}, next to nothing"


class NothingRead(Reason):
    """It answered, and nothing that it wrote is an answer."""

    n_items: int

    says = "none of its {n_items:,} answers can be read"


class TooSlow(Reason):
    """Its mean answer takes longer than a request may."""

    latency_ms: float
    limit_ms: float

    def __str__(self) -> str:
        took = milliseconds(self.latency_ms)
        return f"{took} an answer, above limits.latency_ms={self.limit_ms:g}"


class WorsePrompt(Reason):
    """The same model with another prompt is more accurate."""

    best_prompt: str
    best: float
    accuracy: float
    n_items: int
    """The first items, which both prompts were tried on."""

    def __str__(self) -> str:
        return (
            f"the prompt {self.best_prompt} alone has {percent(self.best)} in place of "
            f"{percent(self.accuracy)} of the first {counted(self.n_items, 'item')}"
        )


# Why distilling is not advised however well it pays.


class Beaten(Reason):
    """Models were measured to be more accurate than the student."""

    by: tuple[tuple[str, Reason], ...]
    """Name of each, with the numbers that show it."""

    def __str__(self) -> str:
        models = "; than ".join(f"{name}: {numbers}" for name, numbers in self.by)
        return f"But the student is less accurate than {models}."


class AccuracyUnknown(Reason):
    """Nothing predicts the student's accuracy."""

    says = "How accurate the student will be is not known: see plan.pilot=true."


class MissesLimit(_OfAccuracy):
    """The student has too little for `limits.accuracy`."""

    limit: float
    is_measured: bool
    """Whether the accuracy is that on the test items, and no prediction."""

    def __str__(self) -> str:
        misses = "does not meet" if self.is_measured else "is not expected to meet"
        return f"But the student {misses} limits.accuracy={self.limit:g}: {self.shown}."


class LessAccurate(_OfAccuracy):
    """An alternative is surely more accurate than the student."""

    is_measured: bool
    model: str
    model_accuracy: float

    def __str__(self) -> str:
        is_less = "is" if self.is_measured else "is expected to be"
        return (
            f"But the student {is_less} less accurate than {self.model}: {self.shown} against "
            f"{percent(self.model_accuracy)}."
        )


class Behind(LessAccurate):
    """The alternative that it is compared with has more, though their intervals meet."""

    def __str__(self) -> str:
        return f"{super().__str__()} Their intervals meet, which does not make them equal."


class MayBeBehind(_OfAccuracy):
    """What is known of both does not rule out that the student has far less."""

    is_measured: bool
    model: str
    model_accuracy: Interval
    points: float
    """By how many it may be behind."""

    def __str__(self) -> str:
        has = "has" if self.is_measured else "is expected to have"
        more = "evaluate.n_items" if self.is_measured else "plan.pilot=true and probe.n_items"
        model = _OfAccuracy(self.model_accuracy).shown
        return (
            f"The student {has} {self.shown} right, {self.model} {model}: it may be "
            f"{self.points:.0f} points behind. Say what is enough (limits.accuracy=<share>), or "
            f"measure it more closely ({more}=<number>)."
        )


FALLS_SHORT = (Beaten, MissesLimit, LessAccurate)
"""Doubts of a student that is worse than what it would replace: it pays nothing back."""


class _OfAgreement(_OfAccuracy):
    """How often the student gives the logged answer is all that is known of it."""

    is_measured: bool

    @property
    def agrees(self) -> str:
        """How often it does."""
        gives = "gives" if self.is_measured else "is expected to give"
        return f"But the student {gives} its answer to {self.shown} of requests"


class AgreesTooLittle(_OfAgreement):
    """The student hardly ever gives the logged answer."""

    says = "{agrees}: it takes the place of nothing."


class EnoughUnsaid(_OfAgreement):
    """The user has not said which agreement is enough."""

    says = "{agrees}: say from which share on that is enough, such as limits.accuracy=0.9."


# What else is to be known of a verdict, and why there is none.


class Sunk(Reason):
    """The student is trained: its costs count no more."""

    says = "What the student has cost so far is left out: it is spent either way."


class EndsWithin(Reason):
    """The reference answers no more before the horizon ends."""

    model: str
    day: datetime.date

    says = "{model} ends on {day}, within the horizon."


class OnlySlow(Reason):
    """A model that would do the task takes too long."""

    model: str
    slow: TooSlow
    is_unsure: bool
    """Whether it may do the task, and that is not shown."""

    def __str__(self) -> str:
        would = "may" if self.is_unsure else "would"
        return f"{self.model} {would} do the task, but is too slow: {self.slow}."


class NotSure(Reason):
    """The reference may be no alternative."""

    model: str
    why: Reason

    says = (
        "Whether {model} is an alternative is not sure: {why}. A probe of more "
        "items tells (probe.n_items=<number>)."
    )


class SlicesNotAsked(Reason):
    """The price of an answer lacks that of some slices."""

    share: float
    """Of the rows that are of these slices."""

    says = "Of slices with {share:.1%} of the rows no answer was asked: their price is open."


class SharesUnknown(Reason):
    """The price of an answer counts all slices alike."""

    n_slices: int

    def __str__(self) -> str:
        return (
            f"Its price counts the {counted(self.n_slices, 'slice')} of the task alike: which "
            "share of requests each has is not known."
        )


class IfGivenBack(Reason):
    """What the verdict would be if the student's server were given back while nobody asks."""

    scaled: ScaledToZero
    usd_per_day: float
    """Of the server that stays."""
    outcome: Outcome
    """As it is."""
    outcome_then: Outcome

    def __str__(self) -> str:
        scaled, then = self.scaled, self.outcome_then
        pays = {
            "distil": "distilling pays",
            "stay": "it does not pay",
            "open": "it is open if it pays",
        }
        return (
            f"If its server is given back after {duration(scaled.keep_s)} without a request, it "
            f"costs {usd(scaled.usd_per_day)} a day in place of {usd(self.usd_per_day)}, and "
            f"{percent(scaled.share_waiting)} of the requests wait for a start of about "
            f"{duration(scaled.start_s)}: then {'still ' * (then == self.outcome)}{pays[then]}."
        )


class NoneProbed(Reason):
    """No model was probed."""

    says = (
        "Whether distilling pays is not said: no model was probed. Name the one that you pay "
        "for: teacher=<name> (--help teacher lists them)."
    )


class NonePriced(Reason):
    """No model that was probed has a price."""

    models: tuple[str, ...]

    def __str__(self) -> str:
        have = "has" if len(self.models) == 1 else "have"
        return (
            f"Whether distilling pays is not said: {listed([*self.models])} {have} no price by the "
            "token. For an endpoint that you pay for, give "
            "teacher.usd_per_million_input_tokens=<dollars> and "
            "teacher.usd_per_million_output_tokens=<dollars>."
        )


def range_of(accuracy: Interval) -> str:
    """Write an accuracy with its range: "3.1% (0.0% to 9.4%)"."""
    return f"{accuracy.mean:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
