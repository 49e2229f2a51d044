"""The verbs of `stratos`: their order, their one parser, and the one way in which they fail.

`run` and `plan` take Hydra's overrides, and so does a command line without a verb. The module of
each other verb offers two functions, and is imported when its verb is typed:

    add_arguments(parser)    describes the command, and adds its arguments to an `ArgumentParser`
    run(args)                does it; returns its exit code, or None for 0
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from stratos.cli.words import file_typed
from stratos.core.errors import ConfigError, StratosError, UsageError, did_you_mean
from stratos.core.extensions import Command, extensions, room_configs
from stratos.core.extras import required
from stratos.core.formats import visible
from stratos.core.output import SCREEN_FLAGS
from stratos.core.process import Terminated, leave

_COMMANDS = "stratos.cli.commands"
HYDRA = {
    "run": "from a task to a served student; without a verb, this is meant",
    "plan": "what such a run would do and cost: stages=[probe,plan]",
}
"""Verbs whose words are overrides of Hydra, and what they do."""
OURS = {
    "look": Command(
        "a file: what is in it, what a student reaches, what to type", f"{_COMMANDS}.look"
    ),
    "init": Command("a file as a task of this folder: conf/task/<name>.yaml", f"{_COMMANDS}.init"),
    "demo": Command("a student of 200 support tickets, in two minutes", f"{_COMMANDS}.demo"),
    "status": Command(
        "the runs of this folder: stage, dollars, accuracy", f"{_COMMANDS}.status", failure=2
    ),
    "compare": Command(
        "two runs: which student is better, what differs", f"{_COMMANDS}.compare", failure=2
    ),
    "serve": Command("host a student on this machine", f"{_COMMANDS}.serve"),
    "verify": Command("check a bundle's files and its answers", f"{_COMMANDS}.verify"),
    "report": Command(
        "the page that compares the jobs of a sweep", f"{_COMMANDS}.report", failure=2
    ),
    "ledger": Command("what a run has spent", f"{_COMMANDS}.ledger"),
    "sweep": Command("run what is missing of a sweep", f"{_COMMANDS}.sweep", failure=2),
    "servers": Command("jobs that run elsewhere, their price; end them", f"{_COMMANDS}.servers"),
}
"""Verbs of the core, in the order of a user's day."""
HIDDEN = {"stage": Command("one stage of a run, on a node", f"{_COMMANDS}.stage")}
"""What programs type, and `stratos --help` does not show."""
_FLAGS = (*SCREEN_FLAGS, "-m", "--multirun")
"""What takes no value, and may stand before a verb, too."""
_OPTION = re.compile(r"--?[A-Za-z][^\s]*")
"""An option; not a negative number, and no text that begins with a dash."""


def commands() -> Mapping[str, Command]:
    """Return the verbs that are not Hydra's and are shown, in the order of `stratos --help`."""
    added = [pair for extension in extensions() for pair in extension.commands.items()]
    return {**OURS, **dict(sorted(added, key=lambda pair: pair[1].rank))}


def summaries() -> dict[str, str]:
    """Return every verb that is shown, in order, with what it does."""
    return {**HYDRA, **{verb: command.summary for verb, command in commands().items()}}


def obey(words: Sequence[str]) -> int:
    """Do what a command line asks for.

    Args:
        words: all of it behind the name of the program.

    Returns:
        The exit code: 0 where it is done, 2 where the words or the config cannot be, 130 after
        Ctrl-C, else what the command documents.

    Raises:
        SystemExit: argparse has shown help or an error, or a run has failed.
    """
    flags = list(takewhile(_FLAGS.__contains__, words))
    if words[len(flags) :] and not _is_override(words[len(flags)]):
        words = [*words[len(flags) :], *flags]
    words = _help_last(words)
    verb, command = "run", None
    if words and not _is_override(words[0]):
        verb, *words = words
        command = None if verb in HYDRA else HIDDEN.get(verb) or commands().get(verb)
    try:
        if verb in HYDRA:
            run = importlib.import_module(f"{_COMMANDS}.run")  # others do without Hydra
            with required():
                run.run_hydra(words, is_plan=verb == "plan")
            return 0
        if command is None:
            if (why := file_typed(verb)) is not None:
                raise ConfigError(str(why))
            known = list(summaries())
            raise ConfigError(
                f"stratos {verb}: there is no such command.{did_you_mean(verb, known)} Known: "
                f"{', '.join(known)}. Overrides are typed as key=value."
            )
        return _run(verb, command, words)
    except StratosError as error:
        print(visible(str(error)), file=sys.stderr)
        failure = 1 if command is None else command.failure
        return 2 if isinstance(error, ConfigError) else failure
    except Terminated as signal:
        leave(signal.exit_code)
    except KeyboardInterrupt:
        leave(130)
    except BrokenPipeError:  # whoever reads along has seen enough: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _help_last(words: Sequence[str]) -> list[str]:
    """Return `help VERB` and `--help VERB` as `VERB --help`; what is no verb may be a group."""
    first, verb = [*words, "", ""][:2]
    if first == "help" or (first == "--help" and verb in commands() and verb not in room_configs()):
        return [*words[1:], "--help"]
    return [*words]


def _is_override(word: str) -> bool:
    """Tell an override or a flag of Hydra's from a verb."""
    return "=" in word or word.startswith(("+", "-", "~"))


class _Parser(argparse.ArgumentParser):
    """A parser that names the option which was meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words, once each of their options is known.

        argparse itself would miss an argument first: the one that stands behind the typo.
        """
        words = sys.argv[1:] if args is None else [*args]
        if self._subparsers is None:  # else the parser of the command behind it checks its own
            for word in takewhile("--".__ne__, words):
                option = word.partition("=")[0]
                if _OPTION.fullmatch(option) and option not in self._option_string_actions:
                    near = did_you_mean(option, self._shown_options())
                    self.error(f"{option}: there is no such option.{near}")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """End with usage and a message, which may hold what the user typed or a path."""
        super().error(visible(message))

    def _shown_options(self) -> list[str]:
        return [
            option
            for option, action in self._option_string_actions.items()
            if action.help is not argparse.SUPPRESS
        ]


def _run(verb: str, command: Command, words: Sequence[str]) -> int:
    module = importlib.import_module(command.module)
    parser = _Parser(prog=f"stratos {verb}", allow_abbrev=False)
    module.add_arguments(parser)
    args = parser.parse_args(words)
    try:
        with required():
            return module.run(args) or 0
    except UsageError as error:
        parser.error(str(error))
