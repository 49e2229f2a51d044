"""The lines of a run: what its records and its end come to, and which are printed at which level.

A line has a name and a text. `LEVELS` alone decides whether it is on the screen; the log in the run
folder has all of them, and the page all that they rest on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import singledispatch
from typing import Any

from stratos.catalog.table import LOCAL
from stratos.config import CUT
from stratos.core.formats import (
    at_least,
    count,
    counted,
    cut_short,
    duration,
    hours,
    interval,
    listed,
    magnitude,
    measured,
    milliseconds,
    n_bytes,
    percent,
    percent_most,
    right,
    size,
    usd,
)
from stratos.evaluate.read_log import describe_reads
from stratos.evaluate.verdict import (
    against_logged,
    errs_most,
    format_in_words,
    known_wordings,
    whole_conversations,
)
from stratos.records import (
    Corpus,
    Deployment,
    Export,
    Interval,
    KindProbe,
    ModelScore,
    Pilot,
    Plan,
    Probe,
    Report,
    RoomRecord,
    Scorecard,
    ServingSetting,
    SliceScore,
    Student,
    TeacherProbe,
)


class Level(IntEnum):
    """How much a run prints."""

    QUIET = 0
    DEFAULT = 1
    VERBOSE = 2
    LOG = 3
    """Of a line that only the log has."""


LEVELS = {
    **dict.fromkeys(("verdict", "spent", "host", "page"), Level.QUIET),
    **dict.fromkeys(("detail", "solved", "load", "took"), Level.VERBOSE),
    "why": Level.LOG,
}
"""Name of a line to the level from which on it is printed; any other is from `DEFAULT` on."""

MOST_ROWS = 5
"""Models of the scorecard on the screen; the page has all."""
ROLES = {
    "student": "student",
    "constrained": "student, decoding constrained by the schema",
    "teacher": "teacher",
    "linear": "TF-IDF with logistic regression",
    "lookup": "nearest training row",
    "situation": "most frequent answer in the same situation",
    "majority": "most frequent answer",
    "untouched": "untouched student",
}
"""Roles in the order in which a reader compares them, and what they are called."""
_NAMED = ("teacher", "student")
"""Roles whose models have a name of their own."""
_MUCH = 0.2
"""Part of a training's time from which on what is around it is told on its line."""
_WIDE, _LONG_MINUTES = 3, 3
"""Ratio of the ends of a plan's hours from which they are shown, where they come to minutes."""
_PLURALS = {
    "broken line": "broken lines",
    "row without an answer": "rows without an answer",
    "copy of a held-out question": "copies of held-out questions",
    "row that repeats another's question and answer": "rows that repeat another's question and "
    "answer",
}
"""Why rows of a file are left out, as its report names it, to the same of several."""
_CHANCE = 0.25
"""A guess among four answers."""


@dataclass(frozen=True)
class Line:
    """One line of the screen; a long text is broken, and goes on below its beginning."""

    name: str
    text: str
    style: str = ""

    @property
    def level(self) -> Level:
        """From which level on it is printed."""
        return LEVELS.get(self.name, Level.DEFAULT)


def outcome(record: Any) -> str:
    """Return what a default run prints of a stage's record, as one text."""
    return "; ".join(line.text for line in lines_of(record) if line.level <= Level.DEFAULT)


@singledispatch
def lines_of(record: Any) -> Iterator[Line]:
    """Yield the lines of a stage's record."""
    raise TypeError(f"no stage makes a {type(record).__name__}")


@lines_of.register
def _(probe: Probe) -> Iterator[Line]:
    beaten = [_teacher(teacher) for teacher in probe.real_teachers]
    if probe.baselines:
        best = max(probe.baselines, key=lambda score: score.slice().exact.mean)
        reached = best.slice()
        of = counted(reached.n_items, "row", spec=",")
        share = percent(reached.exact.mean)
        beaten.append(f"{best.name}, without a model: {share} of {of} right")
    simplest = next((kind for kind in probe.kinds if kind.kind == "linear"), None)
    if simplest is not None:
        f1 = "" if simplest.micro_f1 is None else " micro-F1"
        beaten.append(f"{ROLES['linear']}{f1} {percent(simplest.score)}")
    if beaten:
        yield Line("to beat", "; ".join(beaten))
    if probe.kinds:
        yield Line("tried", _kinds(sorted(probe.kinds, key=lambda kind: -kind.accuracy.mean)))
    if probe.unreachable:
        yield Line("detail", f"not reachable: {', '.join(probe.unreachable)}")


def _teacher(teacher: TeacherProbe) -> str:
    if teacher.logged is not None:
        most = percent_most(teacher.exact.mean) if teacher.logged.is_checked else "an unknown share"
        n_items = counted(teacher.n_items, "answer", spec=",")
        return f"{teacher.card.name}, by its log: at most {most} of {n_items} right"
    cut = f" ({cut_short(teacher.n_truncated, teacher.n_items)})" if teacher.is_cut_short else ""
    return (
        f"{teacher.teacher}, a teacher: {percent(teacher.exact.mean)} of "
        f"{counted(teacher.n_items, 'row', spec=',')} right{cut}{_choice(teacher.choice)}"
    )


def _choice(choice: Interval) -> str:
    if not choice.is_share_known:
        return ""
    blind = choice.low <= _CHANCE <= choice.high
    return f", {'at chance ' if blind else ''}{percent(choice.mean, 0)} on multiple choice"


def _kinds(kinds: Sequence[KindProbe]) -> str:
    best, *rest = kinds
    behind = "".join(f", {kind.student} {percent(kind.score)}" for kind in rest)
    f1 = "" if best.micro_f1 is None else "micro-F1 "
    ends = best.accuracy if best.micro_f1 is None else best.micro_f1
    known = "" if best.micro_f1 is None else f"; {percent(best.accuracy.mean)} of rows whole"
    if best.known is not None:
        known = f", on new wordings; {percent(best.known)} on those that rows show"
    elif best.new is not None:
        known = f", on wordings that rows show; {percent(best.new)} on new ones"
    rows = counted(best.n_rows, "row", spec=",")
    return (
        f"{best.student} {f1}{percent(best.score)} ({interval(ends)}){behind}, "
        f"cross-validated on {rows}{known}"
    )


@lines_of.register
def _(pilot: Pilot) -> Iterator[Line]:
    if not pilot.runs:
        yield Line("detail", "pilot: no pair was trained: " + "; ".join(pilot.left_out.values()))
    for run in pilot.runs:
        longest = run.points[-1]
        paid = f", {usd(run.usd)} to its teacher" if run.usd else ""
        yield Line(
            "pilot",
            f"{run.student} by {run.strategy}: {percent(longest.accuracy)} of "
            f"{counted(longest.n_items, 'validation row', spec=',')} right after "
            f"{magnitude(longest.train_tokens)} tokens{paid}",
        )


@lines_of.register
def _(plan: Plan) -> Iterator[Line]:
    from stratos.plan.explain.show import left_out_by_limit, why_shortly

    is_dear = plan.worth is not None and plan.worth.outcome == "stay"
    rented = plan.in_cloud_usd
    asides = (
        why_shortly(plan),
        left_out_by_limit(plan),
        "it is not expected to pay" if is_dear else "",
        "its vocabulary is cut (why: --verbose)" if plan.student.endswith(CUT) else "",
        "" if rented is None else f"in a cloud from {usd(rented)}: cloud=multi",
    )
    yield Line(
        "plan",
        f"{plan.pair} on {_servers(plan)}: {usd(plan.usd)}, {_until_trained(plan)}, "
        f"{milliseconds(plan.latency_ms)} an answer, accuracy {_expected(plan.accuracy)}; "
        f"{'; '.join(filter(None, asides))}",
    )
    yield Line("solved", f"{plan.status}, {counted(plan.n_frontier, 'plan')} on the frontier")
    yield from (Line("why", reason) for reason in plan.reasons)


def _until_trained(plan: Plan) -> str:
    """Return the time until the student is trained, with its range where that is wide."""
    text = f"{hours(plan.hours)} until trained"
    low, high = plan.hours_range or (plan.hours, plan.hours)
    is_wide = high >= _WIDE * low and high * 60 >= _LONG_MINUTES
    return f"{text} ({hours(low)} to {hours(high)})" if is_wide else text


def _servers(plan: Plan) -> str:
    """Return where the student is to be served, and how."""
    offers = [(role.count, role.offer) for role in plan.roles_of("serve") if role.offer is not None]
    names = [
        f"{f'{n} × ' if n > 1 else ''}{'this machine' if offer.cloud == LOCAL else offer.name}"
        for n, offer in offers
    ]
    runs: list[ServingSetting] = [role.run for role in plan.roles_of("serve") if role.run]
    engines = dict.fromkeys(f"{run.engine} {run.format}" for run in runs if run.format)
    engine = f" with {' and '.join(engines)}" if engines and names else ""
    return f"{' + '.join(names) or 'no server'}{engine}"


def _expected(accuracy: Interval) -> str:
    """Return a predicted accuracy, or what is known of one that nobody can predict."""
    if accuracy.is_known:
        return f"{percent(accuracy.mean)} ({interval(accuracy)})"
    if accuracy.tried is not None:
        return f"not predicted, {right(accuracy.tried)}"
    return "unknown" if accuracy.high >= 1 else f"at most {percent_most(accuracy.high)}"


@lines_of.register
def _(corpus: Corpus) -> Iterator[Line]:
    refused = sum(corpus.refused.values())
    reasons = [
        counted(n, name, _PLURALS.get(name, name), spec=",")
        for name, n in corpus.refused.items()
        if n
    ]
    # Rows of the user's own: what became of each is said here. Of drawn items the report tells.
    is_of_file = corpus.strategy == "supervised"
    is_of_user = is_of_file or bool(corpus.n_by_source)
    why = f" ({', '.join(reasons)})" if is_of_user and reasons else ""
    parts = corpus.n_by_source if len(corpus.n_by_source) > 1 else corpus.n_by_slice
    of = f": {', '.join(f'{count(n)} {part}' for part, n in parts.items())}"
    # Nobody verified a row of a file, or a teacher's label.
    rows = counted(corpus.n_items, "row" if is_of_user else "verified row", spec=",")
    by = "" if is_of_file else f" by {corpus.strategy}"
    paid = f"; {usd(corpus.usd)} to the teacher" if corpus.usd else ""
    left_out = f", {count(refused)} left out{why}" if refused else ""
    # That all training rows are learnt is no news.
    name = "detail" if corpus.strategy == "supervised" and not refused else "data"
    yield Line(name, f"{rows}{by}{of if len(parts) > 1 else ''}{left_out}{paid}")


@lines_of.register
def _(student: Student) -> Iterator[Line]:
    rows = counted(student.n_validation_items, "validation row", spec=",")
    by = f"of {rows} right"
    if not student.is_lm:
        n = counted(student.n_validation_items, "row", spec=",")
        by = f"cross-validated on {n}"
    resumed = f", gone on {student.n_resumed}×" if student.n_resumed else ""
    # The curve beside it is of the training alone; a user waits for the rest as well.
    around_s = student.setup_seconds if student.setup_seconds > _MUCH * student.seconds else 0.0
    more = f" and {duration(around_s)} to load, measure and save" if around_s >= 10 else ""
    read = "" if student.epochs is None else f"each row read {student.epochs:.2g} times"
    took = f"{duration(student.seconds)}{more}{resumed}"
    layers = "" if student.layers is None else "{} of {} layers".format(*student.layers)
    cut = "" if student.vocabulary is None else "{:,} of {:,} tokens".format(*student.vocabulary)
    facts = (student.name, layers, cut, size(student.n_params), read, took)
    yield Line(
        "training",
        f"{', '.join(filter(None, facts))}: {percent(student.validation_exact)} {by}",
    )
    steps, tokens = counted(student.steps, "step", spec=","), magnitude(student.train_tokens)
    around = duration(student.setup_seconds)
    yield Line("detail", f"training: {steps}, {tokens} tokens; {around} more to load and save")
    if student.calibration_error is not None:
        error = percent(student.calibration_error)
        yield Line("detail", f"training: its probabilities are off by {error} on average")


@lines_of.register
def _(scorecard: Scorecard) -> Iterator[Line]:
    scores = [score for role in ROLES if (score := scorecard.score(role)) is not None]
    rows = [(who(score), _score(score.slice())) for score in scores][:MOST_ROWS]
    width = max((len(name) for name, _ in rows), default=0)
    student = scorecard.score("student")
    n_items = counted(0 if student is None else student.slice().n_items, "row", spec=",")
    reads = scorecard.earlier_reads
    read = f"no stage has read; {describe_reads(reads)}"
    if not reads.n_runs:
        read = "no stage and no earlier run here has read"
    lines = [
        f"{n_items} that {read}; {measured(scorecard.metric)}, 95% interval",
        *(f"  {name:<{width}}  {score}" for name, score in rows),
    ]
    if student is not None and (apart := _slices_apart(student)):
        lines.append(apart)
    if student is not None and student.fields_wrong and (worst := errs_most(student)):
        lines.append(worst.strip())
    if known := known_wordings(scorecard):
        lines.append(known)
    if whole := whole_conversations(scorecard):
        lines.append(whole)
    yield Line("test", "\n".join(lines))
    for score in scores:
        slices = (row for row in score.rows if row.slice != "all")
        parts = [f"{row.slice} {percent(row.exact.mean)}" for row in slices]
        if parts:
            yield Line("detail", f"{who(score)}: {', '.join(parts)}")
    if scorecard.comparison is not None and (bound := at_least(scorecard.comparison)):
        yield Line("detail", bound)
    if scorecard.logged is not None:
        yield Line("detail", against_logged(scorecard.logged))


def _slices_apart(score: ModelScore) -> str:
    """Return what a model has right of each slice, where one is surely worse than the whole."""
    least, parts = score.slice().exact.low, [row for row in score.rows if row.slice != "all"]
    if all(row.exact.high >= least for row in parts):
        return ""
    shares = [f"{row.slice} {percent(row.exact.mean)} of {count(row.n_items)}" for row in parts]
    return f"The {ROLES[score.role]} by slice: {', '.join(shares)}."


def who(score: ModelScore) -> str:
    """Return what a model or baseline is called beside others."""
    role = ROLES[score.role]
    return f"{role} ({score.name})" if score.role in _NAMED else role


def _score(part: SliceScore) -> str:
    text = f"{percent(part.exact.mean):>6}  {interval(part.exact)}"
    f1 = part.micro_f1
    return text if f1 is None else f"{text}, micro-F1 {percent(f1.mean)} ({interval(f1)})"


@lines_of.register
def _(deployment: Deployment) -> Iterator[Line]:
    limit = {None: "", True: ", within the limit", False: ", OVER the latency limit"}
    served, n_learnt = deployment.served, deployment.n_rows_learnt
    parts = [n_bytes(deployment.bundle_bytes)]
    if deployment.model_mb:
        parts = [f"{n_bytes(1e6 * deployment.model_mb)} of a folder of {parts[0]}"]
    if served is not None:
        n_items = counted(served.n_items, "test row", spec=",")
        parts.append(f"as {served.format} {percent(served.exact.mean)} of {n_items} right")
    parts.append(
        f"95% of answers within {milliseconds(deployment.latency_p95_ms)} here"
        f"{limit[deployment.meets_latency_limit]}"
    )
    if deployment.load is not None:
        parts.append("load-tested (off: deploy.load_seconds=0)")
    if n_learnt:
        rows = counted(n_learnt, "row", spec=",")
        share = deployment.agreement
        agrees = "" if share is None else f", {percent(share)} of its answers are as before"
        parts.append(f"after the test it learnt all {rows}{agrees}")
    if deployment.n_equal < deployment.n_requests:
        of = "evaluated ones" if not n_learnt else "answers of the same student in this process"
        parts.append(f"only {deployment.n_equal} of {deployment.n_requests} answers equal the {of}")
    yield Line("served", "; ".join(parts))
    if served is not None:
        yield Line("detail", _loss(served))
    if (load := deployment.load) is not None:
        missed = "" if load.kept_up and load.holds_limit else ", NOT held"
        predicted = ""
        if load.p95_ms is not None:
            busy = ", beside other work" if deployment.was_busy else ""
            predicted = f" {load.p95_ms.in_words}{busy}"
        yield Line(
            "load",
            f"{load.requests_per_s:.3g} requests a second, random arrivals{missed}: p95 "
            f"{milliseconds(load.latency_p95_ms)}{predicted} (capacity {load.capacity_per_s:.3g})",
        )


def _loss(served: Export) -> str:
    """Return what the format that is served loses, on the items that it was asked."""
    loss = served.loss_points
    # Zero has no sign, whatever rounding makes of it.
    mean, low, high = (f"{round(value, 1) + 0.0:.1f}" for value in (loss.mean, loss.low, loss.high))
    judgement = format_in_words(served)
    return (
        f"As {served.format} the student loses {mean} points (95% interval {low} to {high}) on "
        f"the {counted(served.n_items, 'test item', spec=',')} that this format was asked"
        f"{f': {judgement}.' if judgement else '.'}"
    )


@lines_of.register
def _(record: RoomRecord) -> Iterator[Line]:
    yield Line(type(record).__name__.lower(), record.outcome())


@lines_of.register
def _(report: Report) -> Iterator[Line]:
    yield Line("detail", f"the page has {n_bytes(report.n_bytes)}")


def no_answers(scores: Mapping[str, tuple[int, int]], scorecard: Scorecard) -> Iterator[Line]:
    """Yield how many answers of models are no answer, or were cut short.

    Args:
        scores: who to its answers that cannot be read, and all of them.
        scorecard: of the run.
    """
    parts = [
        f"{f'{n:,}' if n else 'none'} of the {name}'s {counted(n_all, 'answer', spec=',')}"
        for name, (n, n_all) in scores.items()
    ]
    parts += [
        f"{cut_short(score.n_truncated, score.slice().n_items)} of the {ROLES[score.role]}, which "
        "may be more accurate than is measured"
        for score in scorecard.scores
        if score.is_cut_short and score.role != "untouched"
    ]
    if parts:
        yield Line("no answer", "; ".join(parts))


def errs_most_on(scorecard: Scorecard | None, n_most: int = 3) -> str:
    """Return the labels that the student got wrong most often; "" where there are none."""
    student = None if scorecard is None else scorecard.score("student")
    if student is None:
        return ""
    worst = [f'"{label}"' if set(label) & set(",:;") else label for label in student.errors]
    worst = worst[:n_most]
    return listed(worst) if worst and len(student.labels) > n_most else ""
