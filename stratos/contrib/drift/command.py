"""`stratos drift LOG --run RUN`: is live traffic what the student was tested on?

The answers of the log are those of the student that is judged: none of them is a label. A run with
a file of its own keeps its task and labels, and a teacher labels the requests of the log. Of
other runs the requests are those of a log whose doubtful answers a teacher gives anew, unless
answers of it cannot be read.

The tests say whether two samples of requests with answers are of one distribution. Each statistic
is compared with its values when the samples' labels are dealt anew at random. If nothing has
changed, all ways to deal them are equally likely, so that a p-value of at most p comes with a
probability of at most p, whatever the texts are like (Phipson and Smyth 2010: the dealt labels and
the real ones are counted together). k tests at α/k each alarm falsely with at most α. A request
that comes again is no new draw, and test items are distinct. So each question counts once on either
side. Turns of one conversation are no independent draws: conversations are dealt, each with all of
its turns.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, comb
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from stratos.contrib.logs.conversation import Conversation
from stratos.contrib.logs.row_formats import KNOWN
from stratos.contrib.logs.turn_rows import Seen, read_conversations, unreadable
from stratos.core import tables
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.formats import counted, p_value, percent, visible
from stratos.core.output import add_flag, json_line
from stratos.core.redact import redact_override
from stratos.core.remote import local_path
from stratos.core.tables import Column
from stratos.evaluate.answers import answers_path, read_answers
from stratos.records import Scorecard
from stratos.report.sweep_jobs import overrides_of, record_of
from stratos.tasks.base import Task, Turn, Turns, slices_of
from stratos.tasks.files import is_local

FEWEST = 30
"""Live requests, each question once, below which nothing is said."""
_LEAST_ASKED = 0.9
"""Share of the turns of each slice that were asked, at least, where turns are compared."""
Parse = Callable[[str], str | None]
"""Reads a task's answer out of a text."""


def evaluated(
    run_dir: Path,
    parse: Parse,
    turns: Turns | None = None,
    n_of_slices: Mapping[str, int] | None = None,
) -> list[Response]:
    """Return the questions of a run's evaluation with its student's answers.

    Args:
        run_dir: folder of the run.
        parse: reads an answer.
        turns: tells the turns of conversations, where items are these.
        n_of_slices: turns of the whole test by their slices.

    Raises:
        StratosError: it has none, or they have not the shares that turns of requests have.
    """
    scorecard: Scorecard | None = record_of(run_dir, "evaluate")
    if scorecard is None or not answers_path(run_dir).exists():
        raise StratosError(
            f"{run_dir} has no evaluation with answers to compare with. Name the folder of a run "
            "that was evaluated: stratos status lists them."
        )
    answers = read_answers(run_dir, scorecard)
    if turns is not None:
        _check_shares(Counter(answer.slice for answer in answers), n_of_slices or {})
        test = turns.of_answers((answer.question, answer.text) for answer in answers)
        return [*map(Response.of_turn, test)]
    questions = (a.messages[-1]["content"] if a.messages else a.question for a in answers)
    pairs = zip(questions, answers, strict=True)
    return [Response(question, a.text, parse(a.text)) for question, a in pairs]


def _check_shares(n_asked: Mapping[str, int], n_of_slices: Mapping[str, int]) -> None:
    """Refuse turns of which slices were asked alike often, and not in their shares.

    Raises:
        StratosError: it is so.
    """
    n, n_all = sum(n_asked.values()), sum(n_of_slices.values())
    if any(n_asked[name] < _LEAST_ASKED * of_slice for name, of_slice in n_of_slices.items()):
        raise StratosError(
            f"The evaluation asked {n:,} of {n_all:,} test turns, and not in the shares in which "
            f"texts and calls come. Evaluate the run on all of them: evaluate.n_items={n_all}."
        )


def logged(
    path: str,
    parse: Parse,
    messages_key: str | None = None,
    answer_key: str | None = None,
    turns: Turns | None = None,
) -> tuple[list[Response], int]:
    """Return the requests of a log with their answers, and how many rows could not be read.

    Raises:
        StratosError: it cannot be read, or holds too few.
    """
    try:
        if turns is not None:
            live, n_wrong = turns.of_log(path, messages_key, answer_key)
            answers = [*map(Response.of_turn, live)]
        else:
            answers, n_wrong = _last_answers(path, parse, messages_key, answer_key)
    except OSError as error:
        raise unreadable(path, error) from error
    if (n := len(distinct(answers))) < FEWEST:
        raise StratosError(
            f"{path} has {n} answered requests of different questions, and {FEWEST} are the fewest "
            f"that say anything. Formats: {KNOWN}."
        )
    return answers, n_wrong


def _last_answers(
    path: str, parse: Parse, messages_key: str | None, answer_key: str | None
) -> tuple[list[Response], int]:
    """Return the last answer of each conversation, and how many rows have none.

    Raises:
        OSError: the log cannot be read.
    """
    answers, n_wrong = [], 0
    for _, conversation in read_conversations(path, Seen(), messages_key, answer_key):
        if isinstance(conversation, Conversation) and conversation.answered:
            index = conversation.answered[-1]
            answer = conversation.messages[index]["content"]
            question = conversation.messages[index - 1]["content"]
            answers.append(Response(question, answer, parse(answer)))
        else:
            n_wrong += 1
    return answers, n_wrong


def absolute(path: str) -> str:
    """Return a path that means the same file in another folder; a URL as it is."""
    return os.path.abspath(os.path.expanduser(local_path(path))) if is_local(path) else path


_LOGS = ("logs", "chat")
_OF_RUN = ("stages=", "hydra.", "paths.", "logger")
"""Overrides of a run that are of no other."""
_OWN = (*_OF_RUN, "task.", "+task.", "experiment=", "++task.")
"""Overrides of a run that are not those of its renewal."""
_NOT_OWN = (*_OF_RUN, "strategy=", "task.unlabelled_path=")
"""The same where the task stays that of the run."""
_PATHS = tuple(
    f"task.{key}"
    for key in ("path", "test_path", "tools_path", "schema", "database", "instruction_path")
)


@dataclass(frozen=True)
class Renewal:
    """The command of a new student."""

    overrides: tuple[str, ...]
    """What is typed behind `python -m stratos`; empty where nothing can be advised."""
    warning: str
    """What the answers of the log are, and what becomes of them."""


def renewal(
    run: Path, task: Task, log: str, live: Sequence[Response],
    messages_key: str | None, answer_key: str | None,
) -> Renewal:  # fmt: skip
    """Return the command of a new student of the requests of a log.

    Args:
        run: folder of the run whose student answers now.
        task: its task.
        log: path or URL.
        live: the requests of the log.
        messages_key: field of the messages, where it was named.
        answer_key: field of the answer, where it was named.
    """
    before, warning = overrides_of(run), unchecked(live)
    turns = task.turns()
    if turns is None and task.unlabelled_field is not None:
        questions = run / "drift" / "questions.jsonl"
        _write_questions(questions, task.unlabelled_field, live)
        return Renewal(
            labelled_by_teacher(before, questions),
            f"{warning} So the labels of the run stay, and the teacher labels the questions of the "
            f"log ({questions}); no answer of the log is used.",
        )
    if any(response.value is None for response in live):
        return Renewal(
            (),
            f"{warning} Take the rows whose answers cannot be read out of the log, or correct "
            "them, before it is trained on; then run this again.",
        )
    return Renewal(
        typed_for(before, log, messages_key, answer_key)
        if turns is None
        else _typed(before, turns.typed(log, messages_key, answer_key)),
        f"{warning} If the student gave them, the teacher has to check them: task.answers=relabel "
        "asks it for the doubtful ones.",
    )


def unchecked(live: Sequence[Response]) -> str:
    """Say that the answers of a log are no labels."""
    n_unread = sum(answer.value is None for answer in live)
    unread = f", and {n_unread:,} of them cannot be read" if n_unread else ""
    return (
        f"Nobody has checked the answers to these {counted(len(live), 'request', spec=',')}"
        f"{unread}: a student that is trained on them learns their mistakes."
    )


def labelled_by_teacher(before: Sequence[str], questions: Path) -> tuple[str, ...]:
    """Return the overrides of a run whose teacher labels more questions.

    Args:
        before: of the run.
        questions: file of them, without answers.
    """
    overrides = [
        _placed(override) for override in before
        if not override.lstrip("+").startswith(_NOT_OWN) and redact_override(override) == override
    ]  # fmt: skip
    return (*overrides, f"task.unlabelled_path={questions}", "strategy=pseudo_labels")


def _placed(override: str) -> str:
    """Return an override that means the same in another folder."""
    key, _, value = override.partition("=")
    return f"{key}={absolute(value)}" if key.lstrip("+") in _PATHS and value else override


def _write_questions(path: Path, key: str, live: Iterable[Response]) -> None:
    questions = dict.fromkeys(answer.question for answer in live)
    path.parent.mkdir(exist_ok=True)
    write_atomically(
        path, b"".join(msgspec.json.encode({key: answer}) + b"\n" for answer in questions)
    )


def typed_for(
    before: Sequence[str], log: str, messages_key: str | None, answer_key: str | None
) -> tuple[str, ...]:
    """Return the overrides of a renewal: those of the run, with the log for its task.

    Args:
        before: of the run.
        log: path or URL.
        messages_key: as of `renewal`.
        answer_key: as of `renewal`.
    """
    tasks = [
        override.partition("=")[2]
        for override in before
        if override.lstrip("+").startswith("task=")
    ]
    is_log = bool(tasks) and tasks[-1] in _LOGS
    # The rows of another task are none of a log, and the student's own answers are in this one.
    doubted = () if is_log else ("task.answers=relabel",)
    words = [f"+task={tasks[-1]}" if is_log else "+task=logs", f"task.path={log}", *doubted]
    for key, value in (("messages_key", messages_key), ("answer_key", answer_key)):
        if value is not None:
            words.append(f"task.{key}={value}")
    keys = _keys(words)
    others_typed = [
        override for override in before
        if not override.lstrip("+").startswith("task=")
        and (not override.startswith(_OWN) or (is_log and override.startswith("task.")))
        and override.partition("=")[0] not in keys
        and redact_override(override) == override
    ]  # fmt: skip
    return (*words, *others_typed)


def _typed(before: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a run, with others in place of those of the same keys."""
    own = [
        _placed(override) for override in before
        if not override.lstrip("+").startswith(_OF_RUN)
        and override.lstrip("+").partition("=")[0] not in _keys(words)
        and redact_override(override) == override
    ]  # fmt: skip
    first = [override for override in own if override.lstrip("+").startswith("task=")]
    return (*first, *words, *(override for override in own if override not in first))


def _keys(overrides: Iterable[str]) -> set[str]:
    return {override.partition("=")[0] for override in overrides}


STILL, MOVED = 0, 1
_COLUMNS = (
    Column(),
    Column("evaluation", folds=True),
    Column("live", folds=True),
    Column("p", is_number=True),
    Column(),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Compare live requests and answers with those of a run's evaluation: words and lengths of "
        "questions, lengths of answers, answers that cannot be read, shares of answers."
    )
    parser.epilog = (
        "exit code: 0 no shift, 1 a shift, 2 cannot be compared. example: stratos drift "
        "calls.jsonl --run outputs/<run>"
    )
    parser.add_argument("log", metavar="LOG", help="file or URL of logged requests with answers")
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--alpha", type=float, default=0.01, help="false alarms per check (default 0.01)"
    )
    parser.add_argument("--messages-key", help="field of the messages, if not recognised")
    parser.add_argument("--answer-key", help="field of the answer beside them")
    add_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Compare a log with an evaluation; return 1 where something has shifted.

    Raises:
        StratosError: they cannot be compared.
    """
    if not 0 < args.alpha < 1:
        raise StratosError(f"--alpha {args.alpha:g}: type a share between 0 and 1, as 0.01.")
    from stratos.run.stored_config import config_of

    log, run_dir = absolute(args.log), args.run.absolute()
    if not run_dir.is_dir():
        raise StratosError(f"{args.run} is no folder. Name the folder of a run.")
    task = config_of(run_dir).task
    turns = task.turns()
    n_of_slices = Counter(() if turns is None else slices_of(task, "test", 0).values())
    before = evaluated(run_dir, task.parse, turns, n_of_slices)
    now, n_wrong = logged(log, task.parse, args.messages_key, args.answer_key, turns)
    n_distinct = len(distinct(now))
    checks = shifts(before, now, args.alpha)
    moved = [check for check in checks if check.is_shift]
    new = None
    if moved:
        new = renewal(run_dir, task, log, now, args.messages_key, args.answer_key)
    if args.json:
        plain = {
            "moved": bool(moved),
            "alpha": args.alpha,
            "n_evaluated": len(before),
            "n_live": len(now),
            "n_distinct": n_distinct,
            "n_conversations": _n_units(distinct(now)),
            "n_unread_rows": n_wrong,
            "checks": checks,
            "renewal": new,
        }
        print(json_line(plain))
    else:
        _show(checks, args.alpha)
        _tell(moved, before, now, n_wrong)
        if new is not None:
            _tell_renewal(new)
    return MOVED if moved else STILL


def _show(shifts: list[Shift], alpha: float) -> None:
    to = tables.console()
    rows = [
        [
            Text(shift.name),
            Text(visible(shift.before)),
            Text(visible(shift.now)),
            Text(p_value(shift.p_value)),
            Text("SHIFT", style="bold red") if shift.is_shift else Text(""),
        ]
        for shift in shifts
    ]
    tables.show(to, _COLUMNS, rows)
    to.print(
        f"A shift is p ≤ {alpha / len(shifts):.2g}: if nothing has changed, "
        f"{percent(alpha)} of checks like this one alarm.",
        soft_wrap=True,
    )


def _tell(
    moved: list[Shift], before: Sequence[Response], now: Sequence[Response], n_wrong: int
) -> None:
    n_before, n_now, n_distinct = len(before), len(now), len(distinct(now))
    part = f", of which {MOST:,} at most are compared" if max(n_before, n_distinct) > MOST else ""
    if n_distinct < n_now:
        part = f" ({n_distinct:,} different, each of which counts once){part}"
    left_out = f"; {counted(n_wrong, 'row')} could not be read" if n_wrong else ""
    items = counted(n_before, "test item", spec=",") + _in_conversations(before)
    requests = counted(n_now, "live request", spec=",") + _in_conversations(now)
    print(f"{items}, {requests}{part}{left_out}.")
    if not moved:
        print("No shift.")
        return
    names = ", ".join(shift.name for shift in moved)
    print(f"SHIFT: {names}. The measured accuracy may not hold here.")


def _in_conversations(sample: Sequence[Response]) -> str:
    n = _n_units(sample)
    return f" of {counted(n, 'conversation', spec=',')}" if n < len(sample) else ""


def _tell_renewal(new: Renewal) -> None:
    """Say what to type for a student of these requests."""
    print(visible(new.warning))
    if new.overrides:
        command = f"python -m stratos {visible(shlex.join(new.overrides))}"
        print(
            f"A student of these requests: {command}\nFor its price first, add stages=[probe,plan]."
        )


Floats = np.ndarray[Any, np.dtype[np.float64]]

N_DEALT = 1999
"""Fewest random deals of the labels; with the real one the least p-value is 1/2,000."""
MOST_DEALT = 199_999
"""Most random deals, for a small α."""
_ROOM = 4
"""How far below its threshold the least p-value lies, where `MOST_DEALT` allows it."""
_AT_ONCE = 2000
"""Deals of one chunk, the real one included: 32 MB of 2,000 requests."""
MOST = 1000
"""Requests of a sample that are compared; of more a random part."""
_FEATURES = 2**12
_MOST_ANSWERS = 50
"""Different answers up to which their shares are compared."""
_SHOWN = 5


@dataclass(frozen=True)
class Response:
    """A request with its answer."""

    question: str
    answer: str
    value: str | None
    """What the task reads out of the answer; None where it reads nothing."""
    conversation: str = ""
    """Which it is a turn of; "" of what is by itself."""
    id: str = ""
    """By which it is the same as another; "" where that is the question."""

    @staticmethod
    def of_turn(turn: Turn) -> Response:
        """Return the response that a turn is."""
        return Response(turn.request, turn.answer, turn.kind, turn.conversation, turn.id)


@dataclass(frozen=True)
class Shift:
    """One property of both samples."""

    name: str
    before: str
    """In the evaluation, in words."""
    now: str
    p_value: float
    is_shift: bool
    """Whether it is an alarm."""


@dataclass(frozen=True)
class _Test:
    name: str
    before: str
    now: str
    statistic: Callable[[Floats], Floats]
    """Of memberships (dealt, request), 1 for live: the larger, the more the two differ."""


def shifts(
    before: Sequence[Response], now: Sequence[Response], alpha: float, seed: int = 0
) -> list[Shift]:
    """Compare a sample of live requests with those of the evaluation.

    Args:
        before: of the evaluation.
        now: live.
        alpha: how often one of the tests may alarm though nothing has changed.
        seed: of what is dealt.

    Raises:
        StratosError: no deal of these samples can come to an alarm at so small an α.
    """
    rng = np.random.default_rng(seed)
    before, now = _part(distinct(before), rng), _part(distinct(now), rng)
    tests = list(_tests(before, now, [*before, *now]))
    units_before, units_now = _units(before), _units(now)
    n_before, n_now = units_before.max() + 1, units_now.max() + 1
    unit_of_request = np.append(units_before, n_before + units_now)
    n_dealt = _n_dealt(alpha, len(tests), int(n_before), int(n_now))
    first, n_as_far = np.empty(len(tests)), np.zeros(len(tests))
    for live_units in _dealt(int(n_before), int(n_now), n_dealt, rng):
        live = live_units[:, unit_of_request]
        values = np.array([test.statistic(live) for test in tests])
        if not n_as_far.any():
            first = values[:, 0]  # the real labels are as far apart as themselves
        # Rounding must not tell equal statistics apart.
        n_as_far += (values >= (first - 1e-9 * abs(first))[:, None]).sum(axis=1)
    threshold = alpha / len(tests) * (1 + 1e-9)
    return [
        Shift(test.name, test.before, test.now, p, p <= threshold)
        for test, p in zip(tests, (n_as_far / (1 + n_dealt)).tolist(), strict=True)
    ]


def distinct(sample: Sequence[Response]) -> list[Response]:
    """Return the first response to each question."""
    first: dict[str, Response] = {}
    for response in sample:
        first.setdefault(response.id or response.question, response)
    return list(first.values())


def _units(sample: Sequence[Response]) -> NDArray[np.int64]:
    """Return the number of each request's conversation, in their order."""
    numbers: dict[str, int] = {}
    names = (response.conversation or f" {k}" for k, response in enumerate(sample))
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _n_units(sample: Sequence[Response]) -> int:
    return len(set(_units(sample).tolist()))


def _n_dealt(alpha: float, n_tests: int, n_before: int, n_now: int) -> int:
    """Return how many random deals show p-values of at most α over the number of tests.

    Raises:
        StratosError: `MOST_DEALT` cannot, or so few requests cannot be dealt in so many ways.
    """
    n_ways = comb(n_before + n_now, n_now)
    least = n_tests / min(1 + MOST_DEALT, n_ways)
    if alpha < least * (1 - 1e-9):
        items = counted(n_before, "test item", spec=",")
        why = (
            f"{items} and {counted(n_now, 'live request', spec=',')} can be dealt in "
            f"{n_ways:,} ways only"
            if n_ways <= MOST_DEALT
            else f"{MOST_DEALT:,} random exchanges are made at most"
        )
        advice = (
            f"type --alpha {_rounded_up(least):g}, or more"
            if least < 1
            else "compare with a run that was evaluated on more items"
        )
        raise StratosError(
            f"--alpha {alpha:g} can never alarm: {why}, and {n_tests} tests share it. "
            f"{advice[0].upper()}{advice[1:]}."
        )
    return min(MOST_DEALT, max(N_DEALT, ceil(_ROOM * n_tests / alpha) - 1))


def _rounded_up(share: float) -> float:
    """Return the next share of two digits."""
    unit = 10.0 ** (np.floor(np.log10(share)) - 1)
    return float(ceil(share / unit - 1e-9) * unit)


def _dealt(n_before: int, n_now: int, n: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield memberships (dealt, request) in chunks: the real ones first, then n random ones."""
    real = np.append(np.zeros(n_before), np.ones(n_now))
    for start in range(0, 1 + n, _AT_ONCE):
        live = np.tile(real, (min(_AT_ONCE, 1 + n - start), 1))
        is_random = slice(0 if start else 1, None)
        live[is_random] = rng.permuted(live[is_random], axis=1)
        yield live


def _part(sample: Sequence[Response], rng: np.random.Generator) -> list[Response]:
    """Return a sample, of a large one about `MOST` requests, of random conversations."""
    if len(sample) <= MOST:
        return list(sample)
    units, n_units = _units(sample), _n_units(sample)
    n_kept = max(1, MOST * n_units // len(sample))
    is_drawn = np.isin(units, rng.choice(n_units, n_kept, replace=False))
    return [sample[i] for i in np.flatnonzero(is_drawn).tolist()]


def _tests(
    before: Sequence[Response],
    now: Sequence[Response],
    both: Sequence[Response],
) -> Iterator[_Test]:
    yield _Test(
        "words of questions", *_words(before, now), _distance([answer.question for answer in both])
    )
    for name, text in (("question", attrgetter("question")), ("answer", attrgetter("answer"))):
        sizes = [len(text(answer)) for answer in both]
        yield _Test(f"length of {name}s", _middle(before, text), _middle(now, text), _apart(sizes))
    unread = [float(answer.value is None) for answer in both]
    yield _Test("answers that cannot be read", _unread(before), _unread(now), _more(unread))
    answers = Counter(answer.value for answer in both if answer.value is not None)
    if 1 < len(answers) <= _MOST_ANSWERS:
        yield _Test(
            "shares of answers",
            _commonest(before),
            _commonest(now),
            _chi_squared([answer.value or "" for answer in both]),
        )


def _middle(sample: Sequence[Response], text: Callable[[Response], str]) -> str:
    return f"median {median(len(text(answer)) for answer in sample):,.0f} characters"


def _unread(sample: Sequence[Response]) -> str:
    return percent(sum(answer.value is None for answer in sample) / len(sample))


def _apart(sizes: Sequence[int]) -> Callable[[Floats], Floats]:
    """Return Kolmogorov's and Smirnov's largest distance of two distribution functions."""
    values = np.array(sizes)
    order = np.argsort(values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    of_all = np.arange(1, len(values) + 1)[ends]

    def statistic(live: Floats) -> Floats:
        n_live = live.sum(axis=1, keepdims=True)
        below = np.cumsum(live[:, order], axis=1)[:, ends]
        distance = below / n_live - (of_all - below) / (len(values) - n_live)
        return np.asarray(np.abs(distance).max(axis=1))

    return statistic


def _more(marks: Sequence[float]) -> Callable[[Floats], Floats]:
    """Return the share of the live requests that are marked, beside that of the others."""
    n, n_marked = len(marks), sum(marks)

    def statistic(live: Floats) -> Floats:
        n_live, of_live = live.sum(axis=1), live @ np.array(marks)
        return np.asarray(of_live / n_live - (n_marked - of_live) / (n - n_live))

    return statistic


def _chi_squared(names: Sequence[str]) -> Callable[[Floats], Floats]:
    """Return the chi-squared statistic of how often each name comes."""
    kinds, places = np.unique(names, return_inverse=True)
    of_kind = np.eye(len(kinds))[places]
    totals = of_kind.sum(axis=0)

    def statistic(live: Floats) -> Floats:
        share = live.mean(axis=1, keepdims=True)
        apart = (live @ of_kind - totals * share) ** 2 / totals
        return np.asarray(apart.sum(axis=1) / (share * (1 - share))[:, 0])

    return statistic


def _distance(texts: Sequence[str]) -> Callable[[Floats], Floats]:
    """Return the distance of the mean texts, each a unit vector of hashed groups of letters."""
    from sklearn.feature_extraction.text import HashingVectorizer

    made = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=_FEATURES)
    vectors = made.transform(texts).tocsr()
    alike = np.asarray((vectors @ vectors.T).todense())
    n = len(texts)

    def statistic(live: Floats) -> Floats:
        # With sums a of the live vectors and s of all: |a / l - (s - a) / (n - l)|², from their
        # products alone.
        n_live = live.sum(axis=1)
        c, d = 1 / n_live + 1 / (n - n_live), 1 / (n - n_live)
        of_live = live @ alike
        squares = (of_live * live).sum(axis=1)
        return np.asarray(c**2 * squares - 2 * c * d * of_live.sum(axis=1) + d**2 * alike.sum())

    return statistic


def _words(before: Sequence[Response], now: Sequence[Response]) -> tuple[str, str]:
    """Name the words whose share of questions has fallen, and has risen, most."""
    shares = []
    for sample in (before, now):
        counts = Counter(word for answer in sample for word in set(answer.question.lower().split()))
        shares.append({word: n / len(sample) for word, n in counts.items()})
    old, new = shares
    change = {word: new.get(word, 0.0) - old.get(word, 0.0) for word in old.keys() | new.keys()}
    ordered = sorted(change, key=lambda word: (change[word], word))

    def listed(words: Sequence[str], shares: dict[str, float]) -> str:
        return ", ".join(f"{word} {percent(shares.get(word, 0.0), 0)}" for word in words)

    moved = [*ordered[: _SHOWN - 2], *ordered[-(_SHOWN - 2) :]]
    return listed(moved, old), listed(moved, new)


def _commonest(sample: Sequence[Response]) -> str:
    counts = Counter(answer.value for answer in sample if answer.value is not None)
    return ", ".join(
        f"{name} {percent(n / len(sample), 0)}" for name, n in counts.most_common(_SHOWN)
    )
