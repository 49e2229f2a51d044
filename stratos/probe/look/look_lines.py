"""A look as lines of a terminal: at most 26 of 100 characters."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from functools import partial

from stratos.core.formats import counted, listed, percent, points_gained, shown
from stratos.core.values import override
from stratos.probe.look.columns import MOST_LABELS, AnswerKind, are_numbers, to_label
from stratos.probe.look.facts import Facts, Finding
from stratos.probe.look.measure import MOST_CHARACTERS, Curve, Measured, Reached, Worth, settings
from stratos.probe.look.next_rows import NextRows
from stratos.records import Interval
from stratos.tasks.doubts import of_near
from stratos.tasks.file_report import within_characters

_WIDTH, _INDENT = 100, 11
_MOST_LINES = {
    "labels": 3,
    "texts": 1,
    "rows": 1,
    "doubts": 2,
    "to beat": 1,
    "not tried": 1,
}
"""Lines of a section; of others two. All sections together have 26 at most."""
_MOST_LABELS_SHOWN = 8
_MOST_CONTRADICTIONS_SHOWN, _MOST_ROWS_SHOWN = 3, 4
_MOST_LANGUAGES_SHOWN = 3
_MOST_KINDS_SHOWN = 4
_LONGEST_LABEL = 30
_FEWEST_OF_LANGUAGE = 0.01
"""Share of the texts from which a language is named."""
_ROLES = {
    "majority": "most frequent answer",
    "situation": "most frequent answer in the same situation",
    "lookup": "nearest row",
}


def fact_lines(facts: Facts, *, is_whole: bool = False) -> Iterator[str]:
    """Yield what is in a file, line by line.

    Args:
        facts: what it is.
        is_whole: whether a section has all its lines.
    """
    section = partial(wrapped, is_whole=is_whole)
    n = counted(facts.n_rows, "row", spec=",")
    what = {AnswerKind.LABELS: "a label", AnswerKind.SETS: "several labels"}.get(facts.kind)
    what = what or {AnswerKind.OBJECTS: "a JSON object", AnswerKind.NUMBERS: "a number"}.get(
        facts.kind, "a free text"
    )
    columns = f"text in {shown(facts.text, 40)}, {what} in {shown(facts.answer, 40)}"
    if facts.kind is AnswerKind.LABELS and facts.is_answer_guessed and are_numbers(facts.labels):
        columns = (
            f"text in {shown(facts.text, 40)}, labels from column {shown(facts.answer, 40)} (each "
            "number is one)"
        )
    yield from section("file", f"{shown(facts.path)}: {n}, {columns}")
    if facts.labels:
        yield from section("labels", _labels(facts))
    elif facts.n_labelled:
        yield from section(
            "answers",
            f"{facts.n_different:,} different, {facts.words_of_answer:.0f} words on average",
        )
    yield from section("texts", _texts(facts))
    if rows := _rows(facts):
        yield from section("rows", rows)
    if doubts := "; ".join(_doubts(facts)):
        yield from section("doubts", doubts)
    yield from section("private", _private(facts.personal))


def _labels(facts: Facts) -> str:
    items = list(facts.labels.items())
    named = [f"{shown(label, _LONGEST_LABEL)} {n:,}" for label, n in items[:_MOST_LABELS_SHOWN]]
    if len(items) > _MOST_LABELS_SHOWN:
        last, n = items[-1]
        named.append(f"… the rarest {shown(last, _LONGEST_LABEL)} {n:,}")
    single = sum(n == 1 for n in facts.labels.values())
    rare = f"; {counted(single, 'label has', 'labels have')} one row" if single else ""
    return f"{len(items):,}: {', '.join(named)}{rare}"


def _texts(facts: Facts) -> str:
    lengths = facts.lengths
    text = (
        f"median {lengths.median:,} characters, 95% up to {lengths.p95:,}, longest "
        f"{lengths.longest:,}"
    )
    n = facts.n_languages
    named = {k: v for k, v in facts.languages.items() if v >= max(1, _FEWEST_OF_LANGUAGE * n)}
    shares = [f"{name} {v / n:.0%}" for name, v in list(named.items())[:_MOST_LANGUAGES_SHOWN]]
    if shares:
        text += f"; guessed: {', '.join(shares)}"
        unclear = 1 - sum(facts.languages.values()) / n
        text += f", unclear {unclear:.0%}" if unclear >= _FEWEST_OF_LANGUAGE else ""
    return text


def _rows(facts: Facts) -> str:
    counts = {
        f"cannot be read ({facts.why_broken})": facts.n_broken,
        "without a text": facts.n_without_text,
        "without an answer": facts.n_unlabelled,
        "a repeat of another row": facts.n_repeats,
    }
    parts = [f"{n:,} {what}" for what, n in counts.items() if n]
    if facts.n_near:
        among = ""
        if facts.n_compared < facts.n_labelled - facts.n_repeats:
            among = f" of the first {facts.n_compared:,}"
        parts.append(f"{facts.n_near:,} texts{among} are near duplicates of others")
    return ", ".join(parts)


def _doubts(facts: Facts) -> Iterator[str]:
    """Yield what may be wrong with the rows."""
    if n := facts.n_with_label:
        yield f"{n:,} of {facts.n_labelled:,} texts hold their label: will those to be answered?"
    elif facts.leaks:
        label, token = next(iter(facts.leaks.items()))
        labels = counted(len(facts.leaks), "label is", "labels are", spec=",")
        yield (
            f"{labels} told by a token of the text, as {shown(label, _LONGEST_LABEL)} by "
            f"{shown(token, _LONGEST_LABEL)}: will those to be answered have it?"
        )
    if facts.sorted_by:
        column = shown(facts.sorted_by, _LONGEST_LABEL)
        yield f"sorted by {column}: test the newest rows with task.test_path=<file>"
    if facts.contradictions:
        yield _contradictions(facts)


def _contradictions(facts: Facts) -> str:
    groups = facts.contradictions
    named = [_places(rows) for rows in groups[:_MOST_CONTRADICTIONS_SHOWN]]
    more = len(groups) - len(named)
    end = f"; {more:,} more" if more else ""
    texts = counted(len(groups), "text has", "texts have", spec=",")
    return f"{texts} different answers: {'; '.join(named)}{end}"


def _places(rows: Sequence[str]) -> str:
    """Return where rows stand, such as "lines 3 and 9"."""
    unit = rows[0].partition(" ")[0]
    numbers = [row.partition(" ")[2] for row in rows[:_MOST_ROWS_SHOWN]]
    more = [f"{len(rows) - len(numbers):,} more"] if len(rows) > len(numbers) else []
    return f"{unit}s {listed([*numbers, *more])}"


def _private(findings: Sequence[Finding]) -> str:
    if not findings:
        return "no e-mail or IP address, phone or card number, IBAN, US SSN or key in any column"
    parts = [
        f"{finding.kind} in {counted(finding.n_rows, 'row', spec=',')} ({finding.lines[0]}, "
        f"{shown(finding.column, _LONGEST_LABEL)}: {finding.masked})"
        for finding in findings[:_MOST_KINDS_SHOWN]
    ]
    more = len(findings) - len(parts)
    end = f" and {more} more kinds" if more else ""
    return (
        f"by form: {', '.join(parts)}{end}. A student holds words of its rows, which whoever has "
        "it can read"
    )


def measured_lines(
    facts: Facts,
    measured: Measured,
    label_next: NextRows | None = None,
    *,
    is_whole: bool = False,
) -> Iterator[str]:
    """Yield what is to beat, what is reached, whether it pays, and what to type.

    Args:
        facts: what is in the file.
        measured: what was measured of it.
        label_next: rows that are worth a label.
        is_whole: whether a section has all its lines, and each row that looks mislabelled one.
    """
    section = partial(wrapped, is_whole=is_whole)
    if measured.baselines:
        yield from section("to beat", _reached(measured.baselines))
    if measured.students:
        yield from section("reached", _students(measured))
    if measured.not_measured:
        reasons = (f"{kind} ({why})" for kind, why in measured.not_measured.items())
        yield from section("not tried", "; ".join(reasons))
    if measured.n_rows and measured.baselines:
        yield from section("measured", _sample(facts, measured))
    for doubt in of_near(measured.n_near_test, measured.n_test):
        yield from section("careful", str(doubt))
    if (wrong := measured.mislabelled) is not None and is_whole:
        yield from section("check", f"{wrong.counted}:")
        yield from (f"{'':<{_INDENT}}{row}" for row in wrong.named)
    elif wrong is not None:
        yield from section("check", str(wrong))
    if measured.curve is not None:
        yield from section("more rows", _curve(measured.curve, measured))
    if label_next is not None:
        yield from section("label next", _label_next(label_next))
    yield from section("worth it", _verdict(facts, measured))
    yield from _next(facts, measured)


def _next(facts: Facts, measured: Measured) -> Iterator[str]:
    """Yield what to type; nothing where the file has to change first."""
    if not (typed := command(facts, measured)):
        return
    yield from command_lines("next", typed)
    if measured.worth is Worth.LIKE_ID:
        yield f"{'':<{_INDENT}}or, if {shown(facts.answer, 40)} is the answer:"
        yield from command_lines("", _train(facts, measured))
        return
    flags = {"question": ("--text", facts.text), "answer": ("--answer", facts.answer)}
    columns = [word for key in settings(facts)[1] for word in flags.get(key, ())]
    typed = shlex.join(["stratos", "init", facts.path, *columns])
    init = f"{'':<{_INDENT}}{typed}   # keeps it as a task"
    if len(init) <= _WIDTH:
        yield init


def command_lines(title: str, command: str) -> list[str]:
    """Return a command as lines that a shell takes as one."""
    lines = textwrap.wrap(
        command, _WIDTH - _INDENT - 4, break_long_words=False, break_on_hyphens=False
    )
    return (f"{title:<{_INDENT}}" + f" \\\n{'':<{_INDENT}}  ".join(lines)).split("\n")


def _reached(reached: Sequence[Reached]) -> str:
    return ", ".join(
        f"{_ROLES.get(each.name, each.name)} {_share(each.accuracy)}" for each in reached
    )


def _students(measured: Measured) -> str:
    best, *rest = measured.students
    text = f"{best.name} {_share(best.accuracy)}"
    if measured.micro_f1 is not None:
        text += f" with all labels right, micro-F1 {_share(measured.micro_f1)}"
    behind = ", ".join(f"{each.name} {percent(each.accuracy.mean)}" for each in rest)
    return f"{text}{f'; {behind}' if behind else ''}"


def _share(accuracy: Interval) -> str:
    return f"{percent(accuracy.mean)} ({100 * accuracy.low:.0f}–{100 * accuracy.high:.0f}%)"


def _sample(facts: Facts, measured: Measured) -> str:
    of = f" of {measured.n_learnable:,}" if measured.n_rows < measured.n_learnable else ""
    text = f"cross-validation on {measured.n_rows:,}{of} rows (95% in brackets)"
    if measured.n_cut:
        text += f", long texts cut at {MOST_CHARACTERS:,} characters"
    text += f"; no accuracy is of the {measured.n_test:,} test rows"
    if measured.n_edited_test:
        text += f", of which {within_characters(measured.n_edited_test)}"
    counts = {
        "like one of the test": measured.n_like_test,
        "repeated or unusable": facts.n_labelled - measured.n_learnable - measured.n_test,
    }
    left_out = [f"{n:,} {why}" for why, n in counts.items() if n > 0]
    return f"{text}; left out: {', '.join(left_out)}" if left_out else text


def _curve(curve: Curve, measured: Measured) -> str:
    points = ", ".join(
        f"{point.n_rows:,} rows {percent(point.accuracy.mean)}" for point in curve.points
    )
    return f"{points}; {curve.n_doubled:,} {points_gained((curve.gain_low, curve.gain_high))}"


def _label_next(rows: NextRows) -> str:
    some = f"{rows.n_compared:,} drawn of " if rows.n_compared < rows.n_unlabelled else ""
    return (
        f"{counted(rows.n, 'row')} of {some}{rows.n_unlabelled:,} without a label, the most useful "
        f"first: {shown(rows.path, 200)}"
    )


def _beats(gain: Interval, measured: Measured) -> str:
    """Say whether a student pays, of a file that some was measured on."""
    ends = f"{100 * gain.low:.0f} to {100 * gain.high:.0f}"
    name, best = measured.students[0].name, measured.baselines[0]
    untrained, points = _ROLES.get(best.name, best.name), f"{100 * gain.mean:.1f} points ({ends})"
    if gain.mean <= 0:
        return f"no: no kind of student beats the {untrained} so far ({name}: {points})"
    by = f"{name} beats the {untrained} by {points}"
    if measured.worth is Worth.YES:
        return f"yes, as far as accuracy goes: {by}"
    if measured.worth is Worth.NO:
        share = percent(best.accuracy.mean)
        return f"no: the {untrained} is right in {share} and needs no training ({by})"
    return f"cannot be told from so few rows: {by}"


def _verdict(facts: Facts, measured: Measured) -> str:
    if measured.gain is not None:
        return _beats(measured.gain, measured)
    match measured.worth:
        case Worth.TOO_FEW | Worth.LIKE_ID:
            return f"not measured: {measured.why}" if facts.like_id else measured.why
        case Worth.ONE_LABEL:
            return "no: every row has the same label, so that there is nothing to learn"
        case Worth.TOO_MANY_LABELS:
            return (
                f"not measured: {len(facts.labels):,} labels are more than the {MOST_LABELS} that "
                "a run takes. Join rare ones, or name a column of fewer with --label"
            )
        case Worth.NO:
            return "no: the nearest row does it, and needs no training"
    return (
        "only a language model does this task, which a look does not train. The plan says what it "
        "would cost"
    )


def command(facts: Facts, measured: Measured) -> str:
    """Return what to type next; "" where the file has to change first."""
    if measured.worth in (Worth.TOO_FEW, Worth.ONE_LABEL, Worth.TOO_MANY_LABELS):
        return ""
    if facts.like_id is not None:
        label = next(iter(facts.like_id.labels), "")
        look = ["stratos", "look", facts.path, "--text", facts.text, "--label", label]
        return shlex.join(look) if label else to_label(facts.path, facts.text)
    return _train(facts, measured)


def _train(facts: Facts, measured: Measured) -> str:
    """Return the command that trains a student on the columns that were looked at."""
    base, keys = settings(facts)
    verb = "plan" if measured.worth in (Worth.LANGUAGE_MODEL, Worth.LIKE_ID) else "run"
    words = [override(f"task.{key}", str(value)) for key, value in keys.items()]
    return shlex.join(["stratos", verb, f"+task={base}", *words])


def wrapped(title: str, text: str, *, is_whole: bool = False) -> list[str]:
    """Return a section as lines: all, or its share of the screen."""
    return textwrap.wrap(
        text,
        _WIDTH,
        max_lines=None if is_whole else _MOST_LINES.get(title, 2),
        placeholder=" … (whole: --verbose)",
        initial_indent=f"{title:<{_INDENT}}",
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
    )
