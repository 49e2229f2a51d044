"""`stratos logs FILE`: which workloads a log has, what they cost, what to run next."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stratos.contrib.logs.messages.recognised import KNOWN
from stratos.contrib.logs.model_price import card_named
from stratos.contrib.logs.survey import survey
from stratos.contrib.logs.survey_text import lines_of
from stratos.core.counted import counted
from stratos.core.errors import StratosError, UsageError
from stratos.core.foreign import beside
from stratos.core.printable import visible
from stratos.core.remote import local_path
from stratos.tasks.files import is_local


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Read logged conversations, tell workloads apart, and say of each what it costs, what its "
        "answers are, and the command that makes a student of it. Nothing is asked or sent."
    )
    parser.epilog = f"formats: {KNOWN}"
    parser.add_argument("path", help="file, URL, or folder of datasets")
    parser.add_argument("--card", help="teacher at whose price all tokens count, such as gpt_4o")
    parser.add_argument("--messages-key", help="field of the messages, if not recognised")
    parser.add_argument("--answer-key", help="field of the answer beside them")
    parser.add_argument(
        "--doubtful",
        metavar="PAGE",
        help="write a page (HTML) of logged answers that are probably wrong",
    )
    parser.add_argument("--workload", help="id of the only workload that the page is about")


def run(args: argparse.Namespace) -> None:
    """Read a file and print what is in it.

    Raises:
        UsageError: the options do not go together.
        StratosError: it cannot be read.
    """
    if args.workload is not None and args.doubtful is None:
        raise UsageError("--workload names the workload of a page: add --doubtful PAGE.html")
    try:
        if args.doubtful is not None:
            _write_doubtful(args)
        else:
            _print_survey(args)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        meant = beside(Path(local_path(args.path)).expanduser()) if is_local(args.path) else ""
        raise StratosError(f"{args.path} cannot be read: {reason}.{meant}") from error


def _print_survey(options: argparse.Namespace) -> None:
    card = None if options.card is None else card_named(options.card)
    tick = _tick if sys.stderr.isatty() else lambda n: None
    found = survey(options.path, options.messages_key, options.answer_key, tick)
    for line in lines_of(found, card):
        print(visible(line))
    if not found.n_conversations:
        raise StratosError(f"No conversation could be read. Formats: {KNOWN}.")


def _write_doubtful(options: argparse.Namespace) -> None:
    from stratos.contrib.logs.doubtful_page import write_page
    from stratos.contrib.logs.messages import LogTask

    try:
        task = LogTask(
            options.path,
            messages_key=options.messages_key,
            answer_key=options.answer_key,
            workload=options.workload,
            on_error="skip",
        )
        n = write_page(task, Path(options.doubtful))
    except ValueError as error:
        raise StratosError(str(error)) from error
    told = counted(n, "doubtful answer", spec=",")
    print(f"{options.doubtful}: {told}, the first ones of each reason.")


def _tick(n: int) -> None:
    print(f"\r{n:,} rows read", end="\r", file=sys.stderr, flush=True)
