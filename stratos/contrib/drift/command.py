"""`stratos drift LOG --run RUN`: is live traffic what the student was tested on?

The answers of the log are those of the student that is judged: none of them is a label. A run with
a file of its own keeps its task and labels, and a teacher labels the requests of the log. Of
other runs the requests are those of a log whose doubtful answers a teacher gives anew, unless
answers of it cannot be read.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.text import Text

from stratos.contrib.drift.shifts import MOST, Response, Shift, distinct, n_units, shifts
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
from stratos.tasks.base import Task, Turns, slices_of
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
    if key.lstrip("+") not in _PATHS or not value:
        return override
    mark = value[0] if value[0] in "'\"" and value[0] == value[-1] else ""  # as Hydra quotes texts
    return f"{key}={mark}{absolute(value[1:-1] if mark else value)}{mark}"


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
            "n_conversations": n_units(distinct(now)),
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
    n = n_units(sample)
    return f" of {counted(n, 'conversation', spec=',')}" if n < len(sample) else ""


def _tell_renewal(new: Renewal) -> None:
    """Say what to type for a student of these requests."""
    print(visible(new.warning))
    if new.overrides:
        command = f"python -m stratos {visible(shlex.join(new.overrides))}"
        print(
            f"A student of these requests: {command}\nFor its price first, add stages=[probe,plan]."
        )
