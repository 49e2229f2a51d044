"""The verdict of a run: whether its student is to be served, and why. Screen and page show one.

The verdict of the plan is given anew once the student is measured: it rests on no prediction then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from stratos.config import Config, LimitsConfig, StudentConfig
from stratos.core.formats import counted, milliseconds, p_value, percent, percent_range, shown
from stratos.core.intervals import by_shares
from stratos.core.reasons import Reason
from stratos.core.redact import personal_data
from stratos.core.values import find, named
from stratos.evaluate.verdict import (
    CLOSE,
    SURE,
    Verdict,
    accuracy_as_served,
    errs_most,
    verdict,
)
from stratos.plan.alternatives import judged
from stratos.plan.options.sizes import GB_A_GIB
from stratos.plan.worth import MEASURED, MOST_BEHIND, verdict_of, worth_of
from stratos.records import (
    FREE_ROLES,
    Deployment,
    Interval,
    ModelScore,
    Plan,
    Probe,
    Scorecard,
    Student,
    Versus,
    Worth,
)
from stratos.report.planned import planned_rows
from stratos.tasks.base import Task
from stratos.teachers.base import Teacher

_WORTH = {
    "distil": "Serve it, for its cost. ",
    "stay": "Do not serve it, for its cost. ",
    "open": "",
}
"""Outcome of the verdict on cost to how it begins."""
_ENOUGH, _NOTHING = 0.8, 0.05
"""Share of right answers below which a student is not served for being better than baselines of
which none has more than the second, nor where more was planned than so many test rows may show."""


_FASTER = 3.0
"""How many times as long a teacher's mean answer takes as the student's 95th percentile, from which
the latency speaks for the student, whatever else this machine does."""
_LONGEST_ANSWER = 40
"""Characters of an answer that a verdict quotes."""
_MOST_READ = 2_000
"""Training rows that are searched for personal data."""


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


@dataclass(frozen=True)
class RunVerdict:
    """Whether the student of a run is to be served."""

    outcome: Literal["serve", "stay", "open"]
    """serve it; stay with what does the task today, or with what is free; or open: what was
    measured does not decide it."""
    reason: Literal["accuracy", "size", "cost", "latency", "privacy"]
    """What decides it."""
    text: str
    """The same in words, with the numbers."""

    def __str__(self) -> str:
        return self.text


_OF_WORTH: dict[str, Literal["serve", "stay", "open"]] = {
    "distil": "serve", "stay": "stay", "open": "open"
}  # fmt: skip
_OF_ACCURACY: dict[str, Literal["serve", "stay", "open"]] = {
    "better": "serve", "open": "open", "worse": "stay"
}  # fmt: skip


def run_verdict(config: Config, records: Mapping[str, Any]) -> RunVerdict | None:
    """Return whether the student is to be served, and for what; None where nothing was compared."""
    scorecard: Scorecard | None = records.get("evaluate")
    judgement = None if scorecard is None else verdict(scorecard)
    if (missed := missed_limit(config.limits, records)) is not None:
        text = f"Do not serve it yet, for its accuracy: {missed}"
        return RunVerdict("stay", "accuracy", text)
    if (large := missed_size(config.limits, records.get("deploy"))) is not None:
        return RunVerdict("stay", "size", f"Do not serve it yet, for its size: {large}.")
    student: Student | None = records.get("distill")
    if scorecard is not None and student is not None and (same := collapsed(scorecard, student)):
        return RunVerdict("stay", "accuracy", same)
    if judgement is not None and is_needless(config.students, records, judgement):
        text = f"Do not serve this student, for its accuracy: {judgement.against_free}."
        return RunVerdict("stay", "accuracy", text)
    if scorecard is not None and student is not None and student.kind == "majority":
        return RunVerdict("stay", "accuracy", _constant(scorecard))
    if scorecard is not None and (short := _below_plan(scorecard, records)):
        return RunVerdict("stay", "accuracy", short)
    worth = run_worth(config, records)
    beside = None
    if scorecard is not None and (worth is None or worth.outcome == "open"):
        beside = _beside_teacher(config.teachers, config.task, records, scorecard)
    if beside is not None:
        return beside
    if worth is not None:
        text = worth.headline or worth.text
        for start in ("Distil: ", "Don't distil: "):  # which the first words say
            text = text.removeprefix(start)
        text = f"{_WORTH[worth.outcome]}{text[:1].upper()}{text[1:]}"
        return RunVerdict(_OF_WORTH[worth.outcome], "cost", text)
    if judgement is None or scorecard is None:
        return None
    return _beside_baselines(scorecard, judgement, "lm" if student is None else student.kind)


def collapsed(scorecard: Scorecard, student: Student) -> str:
    """Return that a student learnt to give one answer to everything; "" where it did not."""
    score = scorecard.score("student")
    if score is None or score.only_answer is None or student.kind == "majority":
        return ""
    rows = counted(score.slice().n_items, "test row", spec=",")
    answer = f'"{shown(score.only_answer, _LONGEST_ANSWER)}"' if score.only_answer else "nothing"
    trained = ""
    if student.epochs is not None:
        steps = counted(student.steps, "step", spec=",")
        trained = f" It was trained for {steps}, and read each row {student.epochs:.2g} times."
    return (
        f"Do not serve it, for its accuracy: it answers {answer} to all of {rows}, which is right "
        f"for {percent(score.slice().exact.mean)}.{trained}"
    )


def _constant(scorecard: Scorecard) -> str:
    student = scorecard.score("student")
    assert student is not None, "there is a scorecard"
    whole = student.slice()
    rows = counted(whole.n_items, "test row", spec=",")
    return (
        "Do not serve it, for its accuracy: no kind of student is expected to be better than the "
        f"most frequent answer, which {percent(whole.exact.mean)} of {rows} have."
    )


def _beside_teacher(
    teachers: Sequence[Teacher], task: Task, records: Mapping[str, Any], scorecard: Scorecard
) -> RunVerdict | None:
    """Return that a student is to be served that is as good as its teacher, and private or faster.

    Only what the rows hold and what was measured counts; None where neither speaks for it.
    """
    versus = next((each for each in scorecard.against if each.role == "teacher"), None)
    probe: Probe | None = records.get("probe")
    if versus is None or probe is None or may_be_chance(scorecard):
        return None
    teacher = find(teachers, versus.name)
    is_behind = versus.ahead > CLOSE or (versus.p_value < SURE and versus.ahead > 0)
    if teacher is None or is_behind:
        return None
    text = f"{shares_of(versus)} ({_p(versus.p_value)})"
    if teacher.is_elsewhere and (n := _n_personal(task)):
        rows = counted(n, "training row holds", "training rows hold", spec=",")
        why = f"{rows} what looks like personal data, which {teacher.name} gets and it keeps here"
        return RunVerdict("serve", "privacy", f"Serve it, for privacy: {why}; {text}.")
    deployment: Deployment | None = records.get("deploy")
    measured = next((each for each in probe.real_teachers if each.teacher == teacher.name), None)
    if deployment is None or measured is None or not measured.n_items:
        return None
    ms = 1000 * measured.seconds / measured.n_items
    if deployment.latency_p95_ms * _FASTER > ms:
        return None
    fast, slow = milliseconds(deployment.latency_p95_ms), milliseconds(ms)
    why = f"95% of its answers take at most {fast} here, an answer of {teacher.name} {slow}"
    return RunVerdict("serve", "latency", f"Serve it, for its latency: {why}; {text}.")


def _n_personal(task: Task) -> int:
    """Return how many of the first training rows hold what looks like personal data."""
    rows = task.items("train", _MOST_READ) if task.has_rows else []
    return sum(next(personal_data(item.question), None) is not None for item in rows)


def _below_plan(scorecard: Scorecard, records: Mapping[str, Any]) -> str:
    """Return that a student is often wrong, and surely more often than was planned; else ""."""
    student, plan = scorecard.score("student"), records.get("plan")
    if student is None or plan is None or student.slice().exact.mean >= _ENOUGH:
        return ""
    rows = (row for row in planned_rows(plan, records) if row.kind == "accuracy" and row.is_worse)
    planned = next((f"{row.planned} ({row.interval})" for row in rows), "")
    return planned and (
        f"Do not serve it yet, for its accuracy: the student has {_right(student)}, where "
        f"{planned} was planned: the test rows may be unlike those that it learnt from. "
        f"{errs_most(student)}Add rows like those of the test."
    )


def _right(student: ModelScore) -> str:
    whole = student.slice()
    return f"{percent(whole.exact.mean)} of {counted(whole.n_items, 'test row', spec=',')} right"


def _beside_baselines(scorecard: Scorecard, judgement: Verdict, kind: str) -> RunVerdict:
    """Return whether a student of a kind is to be served that is compared with baselines alone."""
    student, best = scorecard.score("student"), scorecard.best_baseline
    assert student is not None and best is not None, "there is a verdict"
    majority = _majority(scorecard)
    if majority is not None and may_be_chance(scorecard):
        free = scorecard.best_free or majority
        text = f"Do not serve it, for its accuracy: {shares_of(free)}{_by_chance(free, majority)}."
        return RunVerdict("stay", "accuracy", text)
    if judgement.outcome == "better":
        if best.student < _ENOUGH and best.baseline <= _NOTHING:
            text = (
                f"Only you can tell whether its accuracy is enough: the student has "
                f"{_right(student)}, and no baseline does the task. {errs_most(student)}"
                "limits.accuracy=<share> says what is enough."
            )
            return RunVerdict("open", "accuracy", text)
        text = f"Serve it, for its accuracy: {shares_of(best)} ({_p(best.p_value)})."
        return RunVerdict("serve", "accuracy", text)
    if not student.is_light or best.role not in FREE_ROLES:
        return RunVerdict(_OF_ACCURACY[judgement.outcome], "accuracy", judgement.text)
    if judgement.outcome == "worse":
        text = f"Serve {best.name}, for its accuracy: {shares_of(best)} ({_p(best.p_value)})."
        return RunVerdict("stay", "accuracy", text)
    if best.role == kind:
        text = f"Serve it, it costs next to nothing: {shares_of(best)}, a model of the same kind."
        return RunVerdict("serve", "cost", text)
    text = (
        f"Serve it or {best.name}, both cost next to nothing: {shares_of(best)}, too few rows to "
        "tell them apart."
    )
    return RunVerdict("open", "cost", text)


def may_be_chance(scorecard: Scorecard) -> bool:
    """Return whether the student is not surely better than the most frequent answer."""
    majority = _majority(scorecard)
    return majority is not None and (majority.p_value >= SURE or majority.ahead > 0)


def _majority(scorecard: Scorecard) -> Versus | None:
    return next((versus for versus in scorecard.against if versus.role == "majority"), None)


def shares_of(versus: Versus) -> str:
    """Say what the student and a baseline have right, or which micro-F1 they have."""
    rows = counted(versus.n_items, "test row", spec=",")
    shares = percent(versus.student), percent(versus.baseline)
    if versus.micro_f1 is not None:
        return f"the student has a micro-F1 of {shares[0]} on {rows}, {versus.name} {shares[1]}"
    return f"the student has {shares[0]} of {rows} right, {versus.name} {shares[1]}"


def _by_chance(free: Versus, majority: Versus) -> str:
    """Say of a student that is not surely better than the most frequent answer how it stands."""
    if majority.p_value < SURE:
        return ""  # surely worse than it, as the shares show
    if free is majority:
        return ", which may be chance"
    return f", and {majority.name} {percent(majority.baseline)}, which may be chance"


def _p(value: float) -> str:
    return f"p {'' if value < 1e-4 else '= '}{p_value(value)}"


def is_needless(
    students: Sequence[StudentConfig], records: Mapping[str, Any], judgement: Verdict
) -> bool:
    """Return whether what is free does as well as a language model.

    Students of other kinds are trained in seconds, and are as free.
    """
    plan: Plan | None = records.get("plan")
    return plan is not None and bool(judgement.against_free) and named(students, plan.student).is_lm


def run_worth(config: Config, records: Mapping[str, Any]) -> Worth | None:
    """Return whether a run pays, by what its records have."""
    names = ("probe", "plan", "evaluate", "deploy")
    return worth_measured(config, *(records.get(name) for name in names))


class SizeMissed(Reason):
    """What is served is larger than a limit allows."""

    key: str
    limit: float
    measured: float
    unit: str

    says = "limits.{key}={limit:g} is not met: the server takes {measured:.3g} {unit}"


def missed_size(limits: LimitsConfig, deployment: Deployment | None) -> SizeMissed | None:
    """Return that weights or memory of what is served pass a limit; None if they do not."""
    if deployment is None:
        return None
    memory = deployment.memory_gib
    sizes = (
        ("model_mb", limits.model_mb, deployment.model_mb, "MB"),
        (
            *("server_memory_gb", limits.server_memory_gb),
            *(0.0 if memory is None else GB_A_GIB * memory.measured, "GB"),
        ),
    )
    for key, limit, measured, unit in sizes:
        if limit is not None and measured > limit:
            return SizeMissed(key, limit, measured, unit)
    return None


def missed_limit(limits: LimitsConfig, records: Mapping[str, Any]) -> LimitMissed | None:
    """Return that what is served falls short of `limits.accuracy`; None if it does not.

    That is the format that was compared with the evaluation, else the student as evaluated.
    """
    scorecard: Scorecard | None = records.get("evaluate")
    student = scorecard.score("student") if scorecard is not None else None
    least = limits.accuracy
    if student is None or least is None:
        return None
    served = accuracy_as_served(scorecard, records.get("deploy"))
    if served is None or served[0].mean >= least:
        return None
    return LimitMissed(least, *served, student.slice().exact.mean)


class BetterByShares(Reason):
    """Another model is surely more accurate than the student, as requests come."""

    student: Interval
    model: Interval

    def __str__(self) -> str:
        ours, theirs = (
            f"{percent(accuracy.mean)} ({percent_range(accuracy.low, accuracy.high)})"
            for accuracy in (self.student, self.model)
        )
        return f"{ours} against {theirs}, each slice by its share of the rows"


class BetterOnItems(Reason):
    """Another model is more accurate than the student on the same test items."""

    student: float
    model: float
    n_items: int
    p_value: float

    def __str__(self) -> str:
        return (
            f"{percent(self.student)} against {percent(self.model)} of the same {self.n_items:,} "
            f"test items (McNemar's exact test: p = {self.p_value:.2g})"
        )


def worth_measured(
    config: Config,
    probe: Probe | None,
    plan: Plan | None,
    scorecard: Scorecard | None,
    deployment: Deployment | None = None,
) -> Worth | None:
    """Return whether distilling pays: by what was measured, or by the plan before that.

    The student has its accuracy on the test items: that of the format that is served, where it was
    asked them. If the teacher, or what needs no model, is ahead on the items that both answered,
    distilling is open however well it pays; so it is where one is surely better when each slice
    counts by its share of the rows, or where what needs no model may do as well. What has been
    spent on the student does not count any more.
    """
    if plan is None or plan.worth is None:
        return None
    if probe is None or scorecard is None or scorecard.score("student") is None:
        return plan.worth
    served = accuracy_as_served(scorecard, deployment)
    assert served is not None, "a student that was evaluated has one"
    measured = replace(plan, accuracy=replace(served[0], source=MEASURED))
    # Why a model is no alternative was judged beside the student that was predicted.
    open_models = [
        judged(config.limits, measured, way)
        for way in plan.worth.alternatives
        if way.kind == "open"
    ]
    by_items = verdict(scorecard)
    outcome = verdict_of(
        config,
        probe,
        measured,
        open_models=open_models,
        beaten_by=_beaten_by(scorecard, probe, config.limits),
        beats_baselines=by_items is None or by_items.outcome == "better",
        better_free=_better_free(scorecard),
        on_same_items=_on_same_items(scorecard),
    )
    return plan.worth if outcome is None else worth_of(outcome)


def _on_same_items(scorecard: Scorecard) -> tuple[str, ...]:
    """Return the name of the teacher where it and the student were compared item by item."""
    teacher = scorecard.score("teacher")
    return () if teacher is None or scorecard.comparison is None else (teacher.name,)


def _better_free(scorecard: Scorecard) -> dict[str, Reason]:
    """Return what needs no model and is ahead of the student, with the numbers that show it."""
    free = scorecard.best_free
    if free is None or free.ahead <= MOST_BEHIND:
        return {}
    return {free.name: BetterOnItems(free.student, free.baseline, free.n_items, free.p_value)}


def _beaten_by(scorecard: Scorecard, probe: Probe, limits: LimitsConfig) -> dict[str, Reason]:
    """Return names of models that are better than the student, with the numbers that show it.

    The teacher may be so on the test items that both answered; it and other models may be so as
    requests come, where the evaluation and the probe alternate slices of unequal shares.
    """
    return {**_beaten_by_shares(scorecard, probe), **_beaten_by_teacher(scorecard, limits)}


def _beaten_by_shares(scorecard: Scorecard, probe: Probe) -> dict[str, Reason]:
    student, teacher = scorecard.score("student"), scorecard.score("teacher")
    assert student is not None
    ours = by_shares({row.slice: row.exact for row in student.slices}, probe.shares)
    better: dict[str, Reason] = {}
    for probed in probe.real_teachers:
        parts = probed.exact_by_slice
        if teacher is not None and teacher.name == probed.teacher:
            parts = {row.slice: row.exact for row in teacher.slices}
        theirs = by_shares(parts, probe.shares)
        if ours is not None and theirs is not None and ours.high < theirs.low:
            better[probed.teacher] = BetterByShares(ours, theirs)
    return better


def _beaten_by_teacher(scorecard: Scorecard, limits: LimitsConfig) -> dict[str, Reason]:
    """Return the teacher if it is ahead: surely, or as far as counts where no limit says enough."""
    both, teacher = scorecard.comparison, scorecard.score("teacher")
    if both is None or teacher is None:
        return {}
    student, of_teacher = both.student_exact.mean, both.teacher_exact.mean
    is_sure = both.p_value < SURE
    if of_teacher - student <= (0.0 if is_sure else MOST_BEHIND):
        return {}
    if not is_sure and limits.accuracy is not None:
        return {}
    return {teacher.name: BetterOnItems(student, of_teacher, both.n_items, both.p_value)}
