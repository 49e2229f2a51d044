"""Answers side by side: of student and teacher, and of two students on items that both answered.

Of student and teacher the first are markup, to be read without a script. The others are data, of
which the script makes the same markup when they are shown: a page of 10,000 answers stays below
5 MB.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from stratos.core.errors import StratosError
from stratos.core.formats import (
    count,
    counted,
    hours,
    interval,
    is_number,
    magnitude,
    milliseconds,
    n_bytes,
    percent,
    predicted,
    usd,
    visible,
)
from stratos.core.pairs import paired_difference
from stratos.core.redact import redact_override
from stratos.evaluate.answers import KeptAnswer, answers_path, read_answers
from stratos.evaluate.verdict import SURE
from stratos.records import (
    CONTENT_OF,
    Corpus,
    Deployment,
    Interval,
    Plan,
    Scorecard,
    Student,
    opened,
)
from stratos.report.costs import read_ledger
from stratos.report.sweep_jobs import RECORDS, Job, config_of, is_run, read_job, record_of

# What two runs are compared by, read from their folders.

_ABSENT = "–"


@dataclass(frozen=True)
class Side:
    """One of two runs."""

    job: Job
    settings: Mapping[str, str]
    """Of its config, by dotted key."""
    data: Mapping[str, str]
    """What its files held, each a short digest, by what they are called."""
    metric: str
    answers: list[KeptAnswer]
    """Of its student to test items; none before they were asked."""


def read_side(folder: Path) -> Side:
    """Read a run.

    Raises:
        StratosError: it is none, or what it left cannot be read.
    """
    if not folder.is_dir() or not is_run(folder):
        raise StratosError(f"{folder} is no folder of a run. Type stratos status to list them.")
    scorecard: Scorecard | None = record_of(folder, "evaluate")
    job = read_job(folder.parent, folder)
    try:
        settings = settings_of(folder)
    except (ValueError, OSError) as error:
        raise StratosError(f"{folder}: {error}") from error
    answers = read_answers(folder, scorecard) if answers_path(folder).exists() else []
    return Side(
        job, settings, data_of(folder), "" if scorecard is None else scorecard.metric, answers
    )


def changed(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return what differs of the settings, or of the data, of two runs: each with both values."""
    keys = sorted(first.keys() | second.keys())
    pairs = {key: (first.get(key, _ABSENT), second.get(key, _ABSENT)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def data_of(folder: Path) -> dict[str, str]:
    """Return a short digest of each file that the task of a run has read; none that is not known.

    The records keep them: a file may have grown since.
    """
    data: dict[str, str] = {}
    for stage in RECORDS:
        with contextlib.suppress(OSError, UnicodeDecodeError, msgspec.MsgspecError):
            data |= opened((folder / f"{stage}.json").read_bytes()).inputs
    whole = f"{CONTENT_OF}task"
    files = {key: digest for key, digest in data.items() if key.startswith(whole)}
    if len(files) > 1:
        files.pop(whole, None)  # of all files at once, of which each has its own key
    return {key: f"digest {digest}" for key, digest in files.items()}


def figures(side: Side) -> dict[str, str]:
    """Return the figures of a run by what they are called; those that there are."""
    return figures_of(side.job)


# The figures of a run as numbers, with units in their names, for programs.


def numbers_of(job: Job) -> dict[str, Any]:
    """Return what is known of a run as plain values; None for what is not."""
    plan: Plan | None = job.records.get("plan")
    corpus: Corpus | None = job.records.get("synthesize")
    student: Student | None = job.records.get("distill")
    scorecard: Scorecard | None = job.records.get("evaluate")
    deployment: Deployment | None = job.records.get("deploy")
    wholes = {} if scorecard is None else {score.role: score.slice() for score in scorecard.scores}
    return {
        "status": job.status,
        "why": job.why,
        "teacher": None if plan is None else plan.teacher,
        "student": None if plan is None else plan.student,
        "strategy": None if plan is None else plan.strategy,
        "planned_usd": None if plan is None else _finite(plan.usd),
        "planned_hours": None if plan is None else _finite(plan.hours),
        "planned_latency_p95_ms": None if plan is None else _finite(plan.latency_ms),
        "predicted_accuracy": None if plan is None else _ends(plan.accuracy),
        "n_training_items": None if corpus is None else corpus.n_items,
        "n_params": None if student is None else student.n_params,
        "n_train_tokens": None if student is None else student.train_tokens,
        "validation_accuracy": None if student is None else _finite(student.validation_exact),
        "test_accuracy": {
            role: {**_ends(whole.exact), "n_items": whole.n_items} for role, whole in wholes.items()
        },
        "latency_p95_ms": None if deployment is None else _finite(deployment.latency_p95_ms),
        "bundle_bytes": None if deployment is None else deployment.bundle_bytes,
        "spent_usd": sum(paid.usd for paid in read_ledger(job.folder / "ledger.jsonl")),
    }


def _ends(quantity: Interval) -> dict[str, float | None]:
    return {
        "mean": _finite(quantity.mean),
        "low": _finite(quantity.low),
        "high": _finite(quantity.high),
    }


def _finite(value: float | None) -> float | None:
    """Return a number, or None for what JSON has none for."""
    return value if value is not None and math.isfinite(value) else None


# What runs are compared by: their figures, as they are written, and their settings.

_OWN = ("paths.run_dir", "paths.cache_dir")
"""Settings in which any two runs differ."""


def figures_of(job: Job) -> dict[str, str]:
    """Return the figures of a run by what they are called; those that there are."""
    return dict(_figures(job))


def settings_of(folder: Path) -> dict[str, str]:
    """Return the settings of a run by dotted key, without secrets.

    Raises:
        ValueError: the file that keeps them is corrupt.
    """
    return {key: shown(key, value) for key, value in raw_settings_of(folder).items()}


def raw_settings_of(folder: Path) -> dict[str, Any]:
    """Return the same as it is kept: `shown` hides the secrets of one, which takes its time.

    What a card knows of its model's earlier trainings is no setting.
    """
    flat = _flat(config_of(folder))
    return {key: value for key, value in flat if key not in _OWN and not key.endswith(".runs")}


def shown(key: str, value: Any) -> str:
    """Return a setting without its secret."""
    return redact_override(f"{key}={value}").partition("=")[2]


def _figures(job: Job) -> Iterator[tuple[str, str]]:
    records = job.records
    yield "status", f"{job.status} {job.why}".strip()
    plan: Plan | None = records.get("plan")
    if plan is not None:
        yield "teacher", plan.teacher
        yield "student", plan.student
        yield "strategy", plan.strategy
        for role in plan.roles:
            if role.offer is not None:
                spot = ", spot" if role.spot else ""
                yield f"server: {role.role}", f"{role.count} × {role.offer.name}{spot}"
        yield "planned dollars", usd(plan.usd)
        yield "planned hours", hours(plan.hours)
        yield "planned p95", milliseconds(plan.latency_ms)
        yield "predicted accuracy", predicted(plan.accuracy)
    corpus: Corpus | None = records.get("synthesize")
    if corpus is not None:
        yield "training items", count(corpus.n_items)
    student: Student | None = records.get("distill")
    if student is not None:
        yield "parameters", magnitude(student.n_params)
        yield "training tokens", magnitude(student.train_tokens)
        yield "validation accuracy", percent(student.validation_exact)
    scorecard: Scorecard | None = records.get("evaluate")
    if scorecard is not None:
        for score in scorecard.scores:
            whole = score.slice()
            yield (
                f"test accuracy: {score.role}",
                f"{percent(whole.exact.mean)} ({interval(whole.exact)}) of {whole.n_items:,}",
            )
    deployment: Deployment | None = records.get("deploy")
    if deployment is not None:
        yield "p95 when served", milliseconds(deployment.latency_p95_ms)
        yield "bundle", n_bytes(deployment.bundle_bytes)
    yield "spent", usd(sum(paid.usd for paid in read_ledger(job.folder / "ledger.jsonl")))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a config, each with its dotted key."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return
    yield prefix, value


Outcome = Literal["first", "second", "open"]


@dataclass(frozen=True)
class LeftOut:
    """Items of a run that cannot be compared, by why."""

    n_relabelled: int
    """Of both, with another gold answer in each."""
    n_only_first_asked: int
    n_only_second_asked: int


@dataclass(frozen=True)
class Paired:
    """How two students did on the same items."""

    n_items: int
    first: float
    """Share of them that the first answers right."""
    second: float
    only_first: int
    """Items that the first alone answers right."""
    only_second: int
    p_value: float
    """Of McNemar's exact test."""
    low: float
    """95% interval of the second's share minus the first's; 0 is outside where `p_value` is below
    0.05."""
    high: float
    left_out: LeftOut

    @property
    def outcome(self) -> Outcome:
        """Which student is surely better."""
        if self.p_value >= SURE or self.only_first == self.only_second:
            return "open"
        return "first" if self.only_first > self.only_second else "second"


def paired(first: list[KeptAnswer], second: list[KeptAnswer]) -> Paired | None:
    """Compare two students on the items that both were asked; None where there are none.

    An item is the same where its question and its gold answer are.
    """
    ours, theirs = _by_item(first), _by_item(second)
    shared = ours.keys() & theirs.keys()
    n = len(shared)
    if not n:
        return None
    only_first = sum(ours[key] and not theirs[key] for key in shared)
    only_second = sum(theirs[key] and not ours[key] for key in shared)
    p_value, low, high = paired_difference(only_second, only_first, n)
    return Paired(
        n_items=n,
        first=sum(ours[key] for key in shared) / n,
        second=sum(theirs[key] for key in shared) / n,
        only_first=only_first,
        only_second=only_second,
        p_value=p_value,
        low=low,
        high=high,
        left_out=left_out(first, second),
    )


def left_out(first: list[KeptAnswer], second: list[KeptAnswer]) -> LeftOut:
    """Return how many items cannot be compared, and why."""
    ours, theirs = _by_item(first).keys(), _by_item(second).keys()
    our_questions, their_questions = ({question for question, _ in keys} for keys in (ours, theirs))
    only_ours, only_theirs = ours - theirs, theirs - ours
    relabelled = [item for item in only_ours if item[0] in their_questions]
    return LeftOut(
        n_relabelled=len(relabelled),
        n_only_first_asked=len(only_ours) - len(relabelled),
        n_only_second_asked=sum(question not in our_questions for question, _ in only_theirs),
    )


def describe(comparison: Paired, names: tuple[str, str]) -> str:
    """Say how two students compare, with the numbers that decide it: the better one first."""
    sides = [
        (names[0], comparison.first, comparison.only_first),
        (names[1], comparison.second, comparison.only_second),
    ]
    low, high = -comparison.high, -comparison.low  # of the one that is named first, minus the other
    if comparison.outcome == "second":
        sides.reverse()
        low, high = comparison.low, comparison.high
    (lead, lead_share, only_lead), (second, share, only_other) = sides
    head = (
        f"{lead} and {second} are not told apart"
        if comparison.outcome == "open"
        else f"{lead} is better than {second}"
    )
    items = counted(comparison.n_items, "test item", spec=",")
    return (
        f"{head}: {lead} {percent(lead_share)}, {second} {percent(share)} of the {items} of both "
        f"(difference {100 * (lead_share - share):+.1f} points, 95% interval {100 * low:+.1f} to "
        f"{100 * high:+.1f} points; only {lead} right on {only_lead:,}, only {second} on "
        f"{only_other:,}, McNemar's exact test p = {comparison.p_value:.2g})."
        f"{said_left_out(comparison.left_out, names)}"
    )


def said_left_out(excluded: LeftOut, names: tuple[str, str]) -> str:
    """Say which items are left out and why; "" where none is."""
    parts = [
        f"{excluded.n_relabelled:,} whose labels differ" if excluded.n_relabelled else "",
        *(
            f"{n:,} that only {name} was asked" if n else ""
            for name, n in zip(
                names, (excluded.n_only_first_asked, excluded.n_only_second_asked), strict=True
            )
        ),
    ]
    listed = ", ".join(filter(None, parts))
    return f" Left out: {listed}." if listed else ""


def _by_item(answers: list[KeptAnswer]) -> Mapping[tuple[str, str], bool]:
    return {(answer.question, answer.gold): answer.score.exact == 1 for answer in answers}


MODELS = ("student", "teacher", "untouched")
_ORDER = ("lost", "neither", "wrong", "won", "both", "right", "unscored")
_MOST = 20_000
"""Answers of a page; of more, the last are left out."""
_LONGEST = 6000
"""Characters of one answer that a page shows."""
_LONGEST_QUESTION = 2000
"""Characters of one question that a page shows."""
_MOST_TEXT, _MOST_BYTES = 1_500_000, 3_600_000
"""Bytes of all that models wrote beside their answers, and of all that is shown; what passes that
stays in the file."""
_N_MARKUP = 400
"""Answers that are markup."""
_MOST_LABELS = 60
"""Different right answers that can be filtered by."""


@dataclass(frozen=True)
class Reply:
    """What one model wrote."""

    model: str
    answer: str
    """The last line that says something."""
    text: str
    """All of it, where it is more than the answer."""
    n_cut: int
    """Characters left out at the end of `text`."""
    right: bool | None
    """None where it was not scored."""


@dataclass(frozen=True)
class Example:
    """One held-out question with every model's reply."""

    question: str
    gold: str
    slice: str
    replies: tuple[Reply, ...]
    kind: str
    """won (student right, teacher wrong), both, lost, neither; right or wrong where the teacher
    was not asked; unscored."""


@dataclass(frozen=True)
class Examples:
    """What is shown, out of how many."""

    shown: tuple[Example, ...]
    n_read: int
    n_unreadable: int

    @property
    def markup(self) -> tuple[Example, ...]:
        """Those that can be read without a script."""
        return self.shown[:_N_MARKUP]

    @property
    def data(self) -> str:
        """The others as JSON that is safe inside a script element; "" where there are none."""
        rows = [_as_data(example) for example in self.shown[_N_MARKUP:]]
        if not rows:
            return ""
        text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")

    @property
    def kinds(self) -> dict[str, int]:
        """Outcome to how many there are."""
        return dict(Counter(example.kind for example in self.shown))

    @property
    def slices(self) -> list[str]:
        """Return the slices to filter by; none where there is one."""
        names = sorted({example.slice for example in self.shown})
        return names if len(names) > 1 else []

    @property
    def labels(self) -> list[str]:
        """Return the right answers to filter by; none where they hardly repeat."""
        names = sorted({example.gold for example in self.shown})
        return names if 1 < len(names) <= min(_MOST_LABELS, len(self.shown) // 2) else []


def read_examples(path: Path) -> Examples:
    """Read every answer, in the order of outcomes: first where the student fails, then the rest."""
    examples: list[Example] = []
    n_read = n_unreadable = 0
    for row in _rows(path):
        if row is None:
            n_unreadable += 1
            continue
        n_read += 1
        if len(examples) < _MOST:
            examples.append(_example(row))
    examples.sort(key=lambda example: (_ORDER.index(example.kind), example.slice))
    return Examples(tuple(_within_bounds(examples)), n_read, n_unreadable)


def _within_bounds(examples: Sequence[Example]) -> Iterator[Example]:
    """Yield examples until the page is full; the texts of those behind are left out earlier."""
    n_text = n_bytes = 0
    for example in examples:
        if n_text >= _MOST_TEXT:
            example = replace(
                example, replies=tuple(_without_text(reply) for reply in example.replies)
            )
        n_text += sum(len(reply.text.encode(errors="replace")) for reply in example.replies)
        n_bytes += len(json.dumps(_as_data(example), ensure_ascii=False).encode())
        if n_bytes > _MOST_BYTES:
            return
        yield example


def _without_text(reply: Reply) -> Reply:
    return replace(reply, text="", n_cut=reply.n_cut + len(reply.text))


def _as_data(example: Example) -> list[Any]:
    """Return what the page's script makes an article of; every text is made visible."""
    return [
        visible(example.question),
        visible(example.gold),
        visible(example.slice),
        example.kind,
        [
            [reply.model, reply.right, visible(reply.answer), visible(reply.text), reply.n_cut]
            for reply in example.replies
        ],
    ]


def _rows(path: Path) -> Iterable[Mapping[str, Any] | None]:
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) else None


def _example(row: Mapping[str, Any]) -> Example:
    scores = row.get("scores")
    scores = scores if isinstance(scores, Mapping) else {}
    replies = tuple(
        _reply(model, row[model], scores.get(model))
        for model in MODELS
        if row.get(model) is not None
    )
    right = {reply.model: reply.right for reply in replies}
    kind = _kind(right.get("student"), right.get("teacher"))
    return Example(
        question=_cut(str(row.get("question", ""))),
        gold=str(row.get("gold", "")),
        slice=str(row.get("slice", "")),
        replies=replies,
        kind=kind,
    )


def _cut(question: str) -> str:
    if len(question) <= _LONGEST_QUESTION:
        return question
    return f"{question[: _LONGEST_QUESTION - 1]}…"


def _kind(student: bool | None, teacher: bool | None) -> str:
    if student is None:
        return "unscored"
    if teacher is None:
        return "right" if student else "wrong"
    if student:
        return "both" if teacher else "won"
    return "lost" if teacher else "neither"


def _reply(model: str, text: Any, score: Any) -> Reply:
    text = text if isinstance(text, str) else json.dumps(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    answer = lines[-1] if lines else ""
    exact = score.get("exact") if isinstance(score, Mapping) else score
    return Reply(
        model=model,
        answer=answer if len(answer) <= 160 else f"{answer[:159]}…",
        text=text[:_LONGEST] if len(lines) > 1 or len(answer) > 160 else "",
        n_cut=max(0, len(text) - _LONGEST),
        right=exact >= 1 if is_number(exact) else None,
    )
