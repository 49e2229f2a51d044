"""The cascade as a front of a hosted student: `stratos serve RUN --cascade`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import msgspec

from stratos.contrib.cascade.endpoint.meter import PROGRAM, Facts, check_alone, front_of
from stratos.core.errors import StratosError
from stratos.core.formats import counted, exact_usd, percent
from stratos.deploy.bundle_server import facts_of
from stratos.deploy.hosted_server import FrontProgram, FrontStatus, Hosted, ServerFront
from stratos.records import ServingSetting

_NUMBERS = ("usd_per_day", "usd_per_month", "teacher_seconds")


class CascadeFront(ServerFront):
    """The program that asks the teacher where the student is unsure."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add --cascade and the limits of its teacher."""
        group = parser.add_argument_group("a cascade")
        group.add_argument(
            "--cascade", action="store_true",
            help="have the teacher answer what the student is unsure of "
            "(cascade.accuracy of the run)",
        )  # fmt: skip
        group.add_argument("--usd-per-day", help="dollars for the teacher, then the student alone")
        group.add_argument("--usd-per-month", help="the same for a calendar month")
        group.add_argument("--teacher-seconds", help="longest wait for the teacher")
        group.add_argument(
            "--if-unavailable", choices=("student", "error"),
            help="what is answered where the teacher is not to be had",
        )  # fmt: skip

    def keep_options(self, args: argparse.Namespace, before: Hosted) -> None:
        """Let a cascade that is started again be one, with the options that are not typed anew."""
        if not is_cascade(before):
            return
        there = dict(pairwise(before.arguments))
        for name in (*_NUMBERS, "if_unavailable"):
            if getattr(args, name) is None:
                setattr(args, name, there.get(f"--{name.replace('_', '-')}"))
        args.cascade = True

    def program(
        self, args: argparse.Namespace, bundle: Path, cache_dir: Path, before: Hosted | None
    ) -> FrontProgram | None:
        """Return the endpoint, for its student as it was measured."""
        words = typed(args)
        if not args.cascade:
            return None
        program = front_of(bundle, cache_dir, words)
        check_as_measured(args, program.run)
        check_alone(bundle, cache_dir, before)
        return program

    def differing(self, before: Hosted, args: argparse.Namespace) -> list[str]:
        """Return the options of a cascade that differ."""
        if not args.cascade:
            return []
        words, there = typed(args), before.arguments
        changed = [
            f"{option} {value}"
            for option, value in zip(words[::2], words[1::2], strict=True)
            if (option, value) not in pairwise(there)
        ]
        return ["--cascade", *changed] if changed or not is_cascade(before) else []

    def status(self, state: Path, hosted: Hosted, answers: bool) -> FrontStatus:
        """Return what it has asked and spent; nothing where it does not answer."""
        facts = facts_now(hosted) if is_cascade(hosted) and answers else None
        return FrontStatus(
            "" if facts is None else f"cascade: {facts_text(facts)}",
            {
                "is_cascade": is_cascade(hosted),
                "cascade": None if facts is None else asdict(facts),
            },
        )


def typed(args: argparse.Namespace) -> list[str]:
    """Return the options of the endpoint that were typed, for the program that it is.

    Raises:
        StratosError: one is no number, or they were typed without --cascade.
    """
    words: list[str] = []
    for name in (*_NUMBERS, "if_unavailable"):
        value = getattr(args, name)
        if value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if name == "teacher_seconds" and _is_amount(value) and float(value) == 0:
            raise StratosError(
                f"{option} {value}: type a number above 0. For the student alone, leave out "
                "--cascade."
            )
        if name in _NUMBERS and not _is_amount(value):
            raise StratosError(f"{option} {value}: type a number of at least 0.")
        words += [option, value]
    if words and not args.cascade:
        raise StratosError(f"{words[0]} goes with --cascade.")
    return words


def _is_amount(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False


def is_cascade(hosted: Hosted) -> bool:
    """Return whether what a hosted student is unsure of goes to its teacher."""
    return hosted.module == PROGRAM


def check_as_measured(args: argparse.Namespace, run: ServingSetting) -> None:
    """Refuse another engine or format than that of the threshold.

    Raises:
        StratosError: it is another.
    """
    for option, typed, measured in (
        ("--engine", args.engine, run.engine),
        ("--format", args.format, run.format),
    ):
        if typed is not None and typed != measured:
            raise StratosError(
                f"{option} {typed}: the threshold of the cascade was chosen for {run.name}, and "
                "another engine or format is otherwise sure of its answers. Leave it out, or run "
                "with that one."
            )


def facts_now(hosted: Hosted) -> Facts | None:
    """Return what a cascade that runs has asked and spent; None where it does not answer."""
    try:
        return msgspec.convert(facts_of(hosted.engine_port, "/cascade"), Facts)
    except (StratosError, ValueError):
        return None


def facts_text(facts: Facts) -> str:
    """Return in words what a cascade has asked and spent."""
    n, unsure = facts.requests, facts.escalated
    share = f" ({percent(unsure / n)})" if n else ""
    answers = counted(facts.teacher_answers, "answer", spec=",")
    tokens = counted(facts.teacher_input_tokens + facts.teacher_output_tokens, "token", spec=",")
    spent = [
        f"{exact_usd(usd)}{'' if limit is None else f' of {exact_usd(limit)}'} {period}"
        for usd, limit, period in (
            (facts.usd_today, facts.usd_per_day, "today"),
            (facts.usd_this_month, facts.usd_per_month, "this month"),
        )
    ]
    lost = (
        (facts.unavailable, "the teacher gave no answer"),
        (facts.out_of_money, "a limit on dollars was reached"),
        (facts.student_errors, "the student did not answer"),
    )
    parts = [
        f"{counted(n, 'request', spec=',')}, {unsure:,} unsure{share}, {answers} of the teacher "
        f"with {tokens} for {exact_usd(facts.usd)}",
        f"{' and '.join(spent)} (UTC)",
        *(f"{counted(times, 'time', spec=',')} {why}" for times, why in lost if times),
    ]
    return "; ".join(parts)
