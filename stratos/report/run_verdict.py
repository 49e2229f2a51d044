"""The verdict of a run: whether its student is to be served, and why. Screen and page show one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stratos.config import Config
from stratos.core.formats import counted, p_value, percent
from stratos.core.names import named
from stratos.core.reasons import Reason
from stratos.evaluate.verdict import SURE, Verdict, accuracy_as_served, verdict
from stratos.records import FREE_ROLES, Interval, Plan, Scorecard, Student, Versus, Worth
from stratos.report.worth_measured import worth_measured

_WORTH = {
    "distil": "Serve it, for its cost. ",
    "stay": "Do not serve it, for its cost. ",
    "open": "",
}
"""Outcome of the verdict on cost to how it begins."""


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
    reason: Literal["accuracy", "cost"]
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
    if (missed := missed_limit(config, records)) is not None:
        text = f"Do not serve it yet, for its accuracy: {missed}"
        return RunVerdict("stay", "accuracy", text)
    if judgement is not None and is_needless(config, records, judgement):
        text = f"Do not serve this student, for its accuracy: {judgement.against_free}."
        return RunVerdict("stay", "accuracy", text)
    student: Student | None = records.get("distill")
    if scorecard is not None and student is not None and student.kind == "majority":
        return RunVerdict("stay", "accuracy", _constant(scorecard))
    if (worth := run_worth(config, records)) is not None:
        text = worth.headline or worth.text
        for start in ("Distil: ", "Don't distil: "):  # which the first words say
            text = text.removeprefix(start)
        text = f"{_WORTH[worth.outcome]}{text[:1].upper()}{text[1:]}"
        return RunVerdict(_OF_WORTH[worth.outcome], "cost", text)
    if judgement is None or scorecard is None:
        return None
    return _beside_baselines(scorecard, judgement)


def _constant(scorecard: Scorecard) -> str:
    student = scorecard.score("student")
    assert student is not None, "there is a scorecard"
    whole = student.slice()
    rows = counted(whole.n_items, "test row", spec=",")
    return (
        "Do not serve it, for its accuracy: no kind of student is expected to be better than the "
        f"most frequent answer, which {percent(whole.exact.mean)} of {rows} have."
    )


def _beside_baselines(scorecard: Scorecard, judgement: Verdict) -> RunVerdict:
    """Return whether a student is to be served that is compared with baselines alone."""
    student, best = scorecard.score("student"), scorecard.best_baseline
    assert student is not None and best is not None, "there is a verdict"
    majority = next((versus for versus in scorecard.against if versus.role == "majority"), None)
    if majority is not None and (majority.p_value >= SURE or majority.ahead > 0):
        free = scorecard.best_free or majority
        text = f"Do not serve it, for its accuracy: {_shares(free)}{_by_chance(free, majority)}."
        return RunVerdict("stay", "accuracy", text)
    if judgement.outcome == "better":
        text = f"Serve it, for its accuracy: {_shares(best)} ({_p(best.p_value)})."
        return RunVerdict("serve", "accuracy", text)
    if not student.is_light or best.role not in FREE_ROLES:
        return RunVerdict(_OF_ACCURACY[judgement.outcome], "accuracy", judgement.text)
    if judgement.outcome == "worse":
        text = f"Serve {best.name}, for its accuracy: {_shares(best)} ({_p(best.p_value)})."
        return RunVerdict("stay", "accuracy", text)
    text = (
        f"Serve it or {best.name}, both cost next to nothing: {_shares(best)}, too few rows to "
        "tell them apart."
    )
    return RunVerdict("open", "cost", text)


def _shares(versus: Versus) -> str:
    rows = counted(versus.n_items, "test row", spec=",")
    return (
        f"the student has {percent(versus.student)} of {rows} right, {versus.name} "
        f"{percent(versus.baseline)}"
    )


def _by_chance(free: Versus, majority: Versus) -> str:
    """Say of a student that is not surely better than the most frequent answer how it stands."""
    if majority.p_value < SURE:
        return ""  # surely worse than it, as the shares show
    if free is majority:
        return ", which may be chance"
    return f", and {majority.name} {percent(majority.baseline)}, which may be chance"


def _p(value: float) -> str:
    return f"p {'' if value < 1e-4 else '= '}{p_value(value)}"


def is_needless(config: Config, records: Mapping[str, Any], judgement: Verdict) -> bool:
    """Return whether what is free does as well as a language model.

    Students of other kinds are trained in seconds, and are as free.
    """
    plan: Plan | None = records.get("plan")
    return (
        plan is not None
        and bool(judgement.against_free)
        and named(config.students, plan.student).is_lm
    )


def run_worth(config: Config, records: Mapping[str, Any]) -> Worth | None:
    """Return whether a run pays, by what its records have."""
    names = ("probe", "plan", "evaluate", "deploy")
    return worth_measured(config, *(records.get(name) for name in names))


def missed_limit(config: Config, records: Mapping[str, Any]) -> LimitMissed | None:
    """Return that what is served falls short of `limits.accuracy`; None if it does not.

    That is the format that was compared with the evaluation, else the student as evaluated.
    """
    scorecard: Scorecard | None = records.get("evaluate")
    student = scorecard.score("student") if scorecard is not None else None
    least = config.limits.accuracy
    if student is None or least is None:
        return None
    served = accuracy_as_served(scorecard, records.get("deploy"))
    if served is None or served[0].mean >= least:
        return None
    return LimitMissed(least, *served, student.slice().exact.mean)
