"""The verdicts: compare the student with the best baselines, and its formats with the student.

Whether a format loses more than is allowed is said as far as it shows. The rule (docs/hosting.md
has how often it is wrong):

- It loses too much where the estimate is above the limit, and the 95% interval excludes 0.
- It is shown to lose no more where the upper end of the interval is within the limit.
- In between it is kept, and the interval's upper end is said.
- Few items, or few right answers, cannot tell: then the texts count.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from stratos.core.formats import counted, interval, listed, percent, percent_range
from stratos.records import (
    FREE_ROLES,
    Deployment,
    Export,
    Interval,
    LoggedVersus,
    ModelScore,
    Scorecard,
    Versus,
)

SURE = 0.05
"""p-value below which a difference counts."""
USABLE = 0.5
"""Share of right answers from which a baseline may stand in for a model."""


CLOSE = 0.03
"""By how much a student may lead what needs no model, where no more is known than that they are not
told apart, before it is said that no model is needed."""


HOSTS = {"lookup": "nearest", "majority": "majority"}
"""Role of a baseline to the student that it is, where there is one."""
Outcome = Literal["better", "open", "worse"]
_ORDER: tuple[Outcome, ...] = ("better", "open", "worse")


@dataclass(frozen=True)
class Verdict:
    """How the student stands beside the best baseline."""

    text: str
    outcome: Outcome
    """Of the student: better, no significant difference, or worse; the worst of these where
    several baselines are spoken of."""
    headline: str = ""
    """What a reader has to know first, in one line: that the student is worse than a baseline, or
    not shown to be better; "" where it is better than all that is spoken of."""
    against_free: str = ""
    """The same of what needs no model; "" where the student is better than it, or is ahead and too
    few items prove it."""


def verdict(scorecard: Scorecard) -> Verdict | None:
    """Return the verdict of a scorecard; None where it has no student or no baseline.

    What needs no model is spoken of wherever the student is not surely better than it, whichever
    baseline is the best.
    """
    best, student = scorecard.best_baseline, scorecard.score("student")
    if best is None or student is None:
        return None
    spoken, free = [best], scorecard.best_free
    if free is not None and free is not best and _outcome(free) != "better":
        spoken.append(free)
    able = frozenset(versus.role for versus in spoken if _stands_in(versus, scorecard))
    text = " ".join(
        f"{_measured(versus)} {_advice(versus, len(spoken) > 1, able, student.is_light)}"
        for versus in spoken
    )
    outcome = max(map(_outcome, spoken), key=_ORDER.index)
    equals = [versus for versus in spoken if _outcome(versus) != "better"]
    # What makes every model needless comes before what is better at a price.
    leads = next((equal for equal in equals if equal.role in able), equals[0] if equals else None)
    against_free = ""
    if free is not None and _outcome(free) != "better" and not _leads_unproven(free):
        against_free = _headline(free, able)
    return Verdict(text, outcome, "" if leads is None else _headline(leads, able), against_free)


def _stands_in(versus: Versus, scorecard: Scorecard) -> bool:
    """Return whether a baseline needs no model and is good enough to be used in place of one.

    It is not where a teacher is surely better, as the model of a log is by its own answers.
    """
    exact, student = versus.other_exact, scorecard.score("student")
    if versus.role not in FREE_ROLES or exact.mean < USABLE:
        return False
    if student is not None and student.is_light:
        return False  # the student is no language model, either
    if scorecard.logged is not None:
        return exact.high >= 1 - CLOSE
    teachers = (versus.other_exact for versus in scorecard.against if versus.role == "teacher")
    return all(teacher.low <= exact.high for teacher in teachers)


def _headline(versus: Versus, able: Set[str]) -> str:
    shares = (
        f"{_who(versus)} {_has(versus)} {versus.baseline:.1%}, the student {versus.student:.1%}"
    )
    is_worse = _outcome(versus) == "worse"
    if _leads_unproven(versus):
        items = counted(versus.n_items, "test item", spec=",")
        return f"{shares}: {items} are too few to tell them apart"
    if versus.role in able:
        unproven = "" if is_worse else "nothing shows that the student is better, so "
        return f"{shares}: {unproven}you need no model"
    if not is_worse:
        return f"{shares}: {counted(versus.n_items, 'item', spec=',')} do not tell them apart"
    is_own = versus.role == "untouched"
    return f"{shares}: {'training made it worse' if is_own else 'the student is worse'}"


def _leads_unproven(versus: Versus) -> bool:
    """Return whether the student is ahead by more than `CLOSE`, and too few items prove it."""
    return _outcome(versus) == "open" and -versus.ahead > CLOSE


def _outcome(versus: Versus) -> Outcome:
    if versus.p_value >= SURE or not versus.ahead:
        return "open"
    return "worse" if versus.ahead > 0 else "better"


def _measured(best: Versus) -> str:
    p = "p < 0.0001" if best.p_value < 1e-4 else f"p = {best.p_value:.2g}"
    of, test = ("of", "McNemar's exact test")
    if best.micro_f1 is not None:
        of, test = ("on", "paired permutation test")
    return (
        f"{_who(best)} {_has(best)} {best.baseline:.1%} {of} "
        f"{counted(best.n_items, 'test item', spec=',')}, the student "
        f"{best.student:.1%} {of} the same ({test}: {p})."
    )


def _has(versus: Versus) -> str:
    return "answers" if versus.micro_f1 is None else "has a micro-F1 of"


def _who(best: Versus) -> str:
    if best.role == "teacher":
        return f"The prompted teacher {best.name}"
    if best.role == "untouched":
        return "The untouched student"
    return f"{best.name[:1].upper()}{best.name[1:]}"


def _advice(best: Versus, is_one_of_two: bool, able: Set[str], is_light: bool) -> str:
    outcome = _outcome(best)
    if outcome == "better":
        return f"The student is better than {'it' if is_one_of_two else 'the best baseline'}."
    if _leads_unproven(best) and (best.role in able or (is_light and best.role in FREE_ROLES)):
        return "Too few test items tell them apart: more rows may show that the student is better."
    if best.role in able:
        hosts = f" student={best.hosted_by} hosts it." if best.hosted_by else ""
        return f"You need no model for this: it is free and answers at once.{hosts}" + (
            "" if outcome == "worse" else " More rows may show a difference."
        )
    if best.role in FREE_ROLES and is_light:
        than = "worse than it" if outcome == "worse" else "not shown to be better or worse"
        return f"The student is {than}; both cost next to nothing. More rows may show a difference."
    if best.role in FREE_ROLES:
        is_worse = outcome == "worse"
        than = "worse than" if is_worse else "not significantly better than"
        return f"The student is {than} no model: it needs more rows or more training."
    if best.role == "teacher":
        is_worse = outcome == "worse"
        advice = "The teacher is better" if is_worse else "The difference is not significant"
        return f"{advice}; the student saves the cost and the time of an answer."
    advice = (
        "Training made it worse" if outcome == "worse" else "Training did not help significantly"
    )
    return f"{advice}: try more rows or other training settings."


def accuracy_as_served(
    scorecard: Scorecard | None, deployment: Deployment | None
) -> tuple[Interval, str] | None:
    """Return the accuracy that a limit counts, and the format that has it; None before both.

    It is that of the format that is served, where it was asked the test items, else that of the
    student as evaluated, with "" for its own weights.
    """
    if deployment is not None and (served := deployment.served) is not None:
        return served.exact, served.format
    student = scorecard.score("student") if scorecard is not None else None
    return None if student is None else (student.slice().exact, "")


def errs_most(student: ModelScore, n_most: int = 3) -> str:
    """Return the sentence that names the worst fields, or labels, with their counts; "" of none."""
    worst = [f"{name} ({n:,})" for name, n in [*student.errors.items()][:n_most]]
    rows = counted(student.slice().n_items, "row", spec=",")
    return f"Wrong most often, of {rows}: {listed(worst)}. " if worst else ""


def by_groups(scorecard: Scorecard | None) -> str:
    """Return how many groups the intervals of a test count; "" where they count its rows."""
    student = None if scorecard is None else scorecard.score("student")
    n = 0 if student is None else student.slice().n_groups
    return f" by {counted(n, 'group', spec=',')} of near duplicates" if n else ""


def known_wordings(scorecard: Scorecard | None) -> str:
    """Return the share right of rows that are worded as training rows; "" where the test's are."""
    if scorecard is None or scorecard.known is None:
        return ""
    return (
        "The test's wordings are new: of those that rows show, "
        f"{percent(scorecard.known)} are right, cross-validated."
    )


def whole_conversations(scorecard: Scorecard | None) -> str:
    """Return how far student and baselines come in whole conversations; "" where none is walked."""
    scores = () if scorecard is None else scorecard.scores
    replays = {score.role: (score.name, score.replay) for score in scores if score.replay}
    if "student" not in replays:
        return ""
    _, own = replays.pop("student")
    beside = "; ".join(
        f"{name} {percent(replay.whole.mean)}, {replay.mean_right:.1f} turns"
        for name, replay in replays.values()
    )
    return (
        f"{counted(own.n_conversations, 'whole conversation', spec=',')} with its own answers and "
        f"the log's results: {percent(own.whole.mean)} ({interval(own.whole)}) without an error, "
        f"{own.mean_right:.1f} of {own.mean_turns:.1f} turns before the first "
        f"({percent(own.whole_calls.mean)} where any text passes for a text)"
        f"{f'; {beside}' if beside else ''}."
    )


def against_logged(versus: LoggedVersus) -> str:
    """Return the comparison as sentences, which claim of neither model that it is right."""
    agrees = versus.agrees
    text = (
        f"Student against the logged model {versus.model}: the student gives its answer to "
        f"{percent(agrees.mean)} ({percent_range(agrees.low, agrees.high)}) of the test items, "
        f"whose logged answers hold."
    )
    if not versus.n_doubtful:
        return f"{text} No logged answer of the test time is doubtful."
    student, logged = versus.student_passes, versus.logged_passes
    doubtful = counted(versus.n_doubtful, "request", spec=",")
    return (
        f"{text} Beside them are {doubtful} of the test time whose logged answer is doubtful: "
        f"{versus.only_student:,} of the student's answers to them pass the checks of the log, "
        f"which tell the form and not whether an answer is right. So of {versus.n_items:,} answers "
        f"{percent(student.mean)} count for the student and {percent(logged.mean)} for the logged "
        f"model ({versus.only_student:,} the student's alone, {versus.only_logged:,} the logged "
        f"one's alone; {_more_counted(versus)})."
    )


def _more_counted(versus: LoggedVersus) -> str:
    if versus.p_value >= SURE:
        return f"not told apart, p = {versus.p_value:.2g}"
    who = "the student" if versus.only_student > versus.only_logged else "the logged model"
    return f"more for {who}, p = {versus.p_value:.2g}"


LEAST_ITEMS = 100
"""Items below which a single one is more than a point."""
LEAST_RIGHT = 10
"""Right answers in the evaluation below which there is next to nothing to lose."""


_SAME = 0.95
"""Share of equal texts from which a format whose accuracy cannot be compared is served as planned:
weights of four times the size are no price for the rest."""


class FormatVerdict(Enum):
    """What was shown about a format."""

    LOSES = "loses too much"
    SHOWN = "loses no more"
    OPEN = "not shown"
    TEXTS = "cannot be compared by accuracy"


def format_verdict(export: Export, most: float) -> FormatVerdict:
    """Return what the items show about a format that may lose `most` points."""
    loss = export.loss_points
    if loss.mean > most and loss.low > 0:
        return FormatVerdict.LOSES
    if round(export.evaluated.mean * export.n_items) < LEAST_RIGHT:
        return FormatVerdict.TEXTS
    if loss.high <= most:
        return FormatVerdict.SHOWN
    return FormatVerdict.TEXTS if export.n_items < LEAST_ITEMS else FormatVerdict.OPEN


def format_in_words(export: Export) -> str:
    """Return the verdict in words, for tables of formats."""
    most = export.max_loss_points
    outcome = format_verdict(export, most)
    if outcome is FormatVerdict.LOSES:
        return f"loses more than {most:g}"
    if outcome is FormatVerdict.SHOWN:
        return f"loses no more than {most:g}"
    if outcome is FormatVerdict.OPEN:
        return f"not shown: up to {export.loss_points.high:.1f}"
    return "all texts are the same" if _is_same(export) else outcome.value


def doubt(export: Export, most: float, n_asked: int, n_evaluated: int) -> str:
    """Return what is not shown about a format that is kept; "" where all texts are the same.

    Args:
        export: the format.
        most: points that it may lose.
        n_asked: items that it was to be asked; with little time it was asked fewer.
        n_evaluated: items of the evaluation, which are the most that it can be asked.
    """
    outcome = format_verdict(export, most)
    if _is_same(export):
        return ""
    if outcome is FormatVerdict.OPEN:
        return (
            f"{export.format} is kept, and it is not shown to lose no more than "
            f"deploy.max_loss_points={most:g}: on {export.n_items:,} items the 95% interval "
            f"reaches to {export.loss_points.high:.1f} points. "
            f"{_more(export.n_items, n_asked, n_evaluated)}"
        )
    if outcome is FormatVerdict.TEXTS:
        return f"{by_text(export)} It is kept."
    return ""


def _more(n: int, n_asked: int, n_evaluated: int) -> str:
    """Say how a format is asked more items, or where they could come from."""
    if n < n_asked:
        return "There was no time for more: deploy.export_minutes=<minutes> gives it."
    if n < n_evaluated:
        return f"deploy.n_export_items={min(4 * n, n_evaluated)} asks more."
    return (
        f"These are all items of the evaluation: more test rows (task.test_path=<file>, or "
        f"evaluate.n_items={4 * n} where the test split has them) would show it."
    )


def by_text(export: Export) -> str:
    """Say that accuracy cannot tell, and how many texts are the same."""
    right = round(export.evaluated.mean * export.n_items)
    return (
        f"{export.format} cannot be compared by accuracy ({export.n_items:,} items, {right:,} "
        f"right in the evaluation): {export.n_equal:,} of {export.n_items:,} answers have the same "
        "text."
    )


def is_open_by_text(export: Export) -> bool:
    """Return whether accuracy cannot tell, and more than a few texts differ."""
    most = export.max_loss_points
    tells = most is None or format_verdict(export, most) is not FormatVerdict.TEXTS
    return not tells and export.n_equal < _SAME * export.n_items


def _is_same(export: Export) -> bool:
    """Return whether all answers have the text of the evaluation."""
    return export.n_equal == export.n_items
