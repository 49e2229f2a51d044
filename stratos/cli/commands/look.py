"""`stratos look FILE`: what is in a file, what a student reaches, and what to type, in seconds."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from stratos.core.errors import ConfigError
from stratos.core.formats import duration, visible
from stratos.core.output import VERBOSE, add_flag, json_line

if TYPE_CHECKING:
    from stratos.probe.look.columns import OtherTaskError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Look at a file of texts and answers: columns, labels, duplicates, personal data, what is "
        "to beat, what a student reaches, what more rows would bring, and what to type next. "
        "Nothing is asked or sent, and no language model is trained."
    )
    parser.epilog = "example: stratos look tickets.csv --text body --label queue"
    parser.add_argument("path", metavar="FILE", help="CSV, TSV, JSON lines, JSON or Parquet")
    add_columns(parser)
    parser.add_argument(
        "--unlabelled", metavar="FILE",
        help="file of texts without labels: the 30 that are worth one most go to a table",
    )  # fmt: skip
    parser.add_argument(
        VERBOSE, action="store_true", help="sections whole, and each row that looks mislabelled"
    )
    add_flag(parser, "all of it as one JSON object")


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the names of the columns, which are guessed without them."""
    parser.add_argument("--text", metavar="COLUMN", help="column with the text")
    parser.add_argument(
        "--label", "--answer", dest="answer", metavar="COLUMN", help="column with the answer"
    )


def run(args: argparse.Namespace) -> None:
    """Print what is in the file at once, and what was measured when it was.

    Raises:
        ConfigError: it cannot be looked at; the message says what to type.
    """
    from stratos.probe.look import Look, measure, read_facts
    from stratos.probe.look.columns import OtherTaskError
    from stratos.probe.look.look_lines import command, fact_lines, measured_lines
    from stratos.probe.look.next_rows import next_rows

    began = time.perf_counter()
    try:
        with _working("reading"):
            facts = read_facts(args.path, args.text, args.answer)
    except OtherTaskError as error:  # to say what to type is what a look is for
        _show_other(error, args)
        return
    if not args.json:
        for line in fact_lines(facts, is_whole=args.verbose):
            print(visible(line), flush=True)
    with _working("measuring"):
        measured = measure(facts)
        label_next = None if args.unlabelled is None else next_rows(facts, args.unlabelled)
    if args.json:
        print(json_line(Look(facts, measured, command(facts, measured), label_next)))
        return
    for line in measured_lines(facts, measured, label_next, is_whole=args.verbose):
        print(visible(line))
    seconds = time.perf_counter() - began
    print(f"{'took':<11}{duration(seconds)}, {time.process_time():.0f} CPU seconds")


def _show_other(error: OtherTaskError, args: argparse.Namespace) -> None:
    """Print what another task reads in the file, or why it refuses it, and what to type."""
    from stratos.probe.look.look_lines import command_lines, wrapped

    sections: dict[str, list[str]] = {}
    if error.overrides:
        with _working("reading"):
            try:
                sections = _sections(error.overrides)
            except ConfigError as refusal:
                sections = {"refused": [str(refusal)]}
    if args.json:
        print(json_line({**sections, "next": error.next}))
        return
    for title, texts in sections.items():
        for number, text in enumerate(texts):
            for line in wrapped("" if number else title, text, is_whole=True):
                print(visible(line))
    for line in command_lines("next", error.next) if sections else [str(error)]:
        print(visible(line))


def _sections(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return what the task of a run with these overrides says of its rows, and what is doubtful.

    Raises:
        ConfigError: the task cannot be made.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from stratos.cli.build import build
    from stratos.cli.compose import CONFIG_NAME, hydra_for, hydra_kept

    with hydra_kept(), hydra_for(None) as hydra:
        composed = hydra.compose_config(
            CONFIG_NAME, [*overrides, "paths.run_dir=."], RunMode.RUN, with_log_configuration=False
        )
        HydraConfig.instance().set_config(composed)
        task = build(composed).task
    return {"rows": [*task.notes], "warning": [*map(str, task.complaints)]}


@contextlib.contextmanager
def _working(what: str) -> Iterator[None]:
    """Tell a terminal what is done while the block lasts."""
    if not sys.stderr.isatty():
        yield
        return
    print(f"{what} …", end="\r", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\x1b[K", end="", file=sys.stderr, flush=True)
