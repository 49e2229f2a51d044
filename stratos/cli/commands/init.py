"""`stratos init FILE`: write `conf/task/<name>.yaml` of a file, which `+task=<name>` then means."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stratos.cli.commands.look import add_columns
from stratos.cli.compose import USER_CONF
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import ConfigError
from stratos.core.extensions import shipped_choices
from stratos.core.formats import counted, shown, visible
from stratos.core.output import why_unwritten
from stratos.core.redact import redact_shapes
from stratos.core.values import uninterpolated

if TYPE_CHECKING:
    from stratos.probe.look import Facts

T = TypeVar("T")

_MOST_COLUMNS = 30
"""Columns that are listed."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NO_LETTER = re.compile(r"[^a-z0-9]+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        f"Look at a file, and write {USER_CONF}/task/<name>.yaml with what is in it: the next run "
        "in this folder takes it as +task=<name>. A terminal is asked; what is given is not."
    )
    parser.epilog = "example: stratos init tickets.csv --name tickets --text body --label queue"
    parser.add_argument("path", metavar="FILE", help="CSV, TSV, JSON lines, JSON or Parquet")
    parser.add_argument("--name", help="of the task; without it that of the file")
    add_columns(parser)
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--force", action="store_true", help="overwrite a task of that name")


def run(args: argparse.Namespace) -> None:
    """Write the file, and say what to type next.

    Raises:
        ConfigError: there is nothing to write, or it is there already; the message says what to
            type.
    """
    from stratos.probe.look import read_facts

    def file_of(name: str) -> Path:
        return _file_of(name, args.path, is_forced=args.force)

    is_asked = sys.stdin.isatty() and not args.yes
    facts = _asked_facts(args) if is_asked else read_facts(args.path, args.text, args.answer)
    name = args.name or _name_of(args.path)
    file = (
        _asked("Name of the task", name, file_of) if is_asked and not args.name else file_of(name)
    )
    name = file.stem
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, task_yaml(name, facts).encode())
    except OSError as error:
        raise ConfigError(why_unwritten(error, file.parent, "cd <folder>")) from error
    print(visible(f"{file}: {_summary(facts)}"))
    print(f"next  stratos run +task={name}")


def _asked_facts(args: argparse.Namespace) -> Facts:
    """Return what is in the file, by the columns that a terminal names: those that were not given.

    Raises:
        ConfigError: the file cannot be read, or what was given cannot be.
    """
    from stratos.probe.look import read_facts
    from stratos.probe.look.columns import UncertainError, chosen
    from stratos.probe.look.facts import read_columns

    values = read_columns(args.path)

    def guess(text: str | None) -> tuple[str, str]:
        try:
            of_text, of_answer = chosen(args.path, values, text, args.answer)
        except UncertainError as error:
            return error.text, ""
        return of_text.name, of_answer.name

    text, answer = guess(args.text)
    if not (args.text and args.answer):
        print(visible("\n".join(_examples(values))))
    if not args.text:
        text, answer = _asked("Column with the text", text, guess)
    if args.answer:
        return read_facts(args.path, text, answer)
    return _asked(
        "Column with the answer", answer, lambda reply: read_facts(args.path, text, reply)
    )


def _examples(values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield each column with the first value that it has, without keys."""
    names = [shown(name, 30) for name in values]
    width = max(map(len, names))
    for name, some in list(zip(names, values.values(), strict=True))[:_MOST_COLUMNS]:
        example, _ = redact_shapes(next(filter(None, some), ""))
        yield f"  {name:<{width}}  {shown(example, 60)}"
    if len(names) > _MOST_COLUMNS:
        yield f"  … {len(names) - _MOST_COLUMNS:,} more"


def _asked(what: str, default: str, use: Callable[[str], T]) -> T:
    """Return what a reply is used for; ask again, and say why, as long as it cannot be."""
    prompt = visible(f"{what} [{default}]: " if default else f"{what}: ")
    while True:
        try:
            if reply := input(prompt).strip() or default:
                return use(reply)
        except EOFError:
            raise ConfigError(f"{what}: nobody replied. Give it as a flag, or add --yes.") from None
        except ConfigError as error:
            print(visible(str(error)))


def _name_of(path: str) -> str:
    """Return the name of a task that a file suggests."""
    stem = Path(path.partition("?")[0]).name.partition(".")[0].casefold()
    name = _NO_LETTER.sub("_", stem).strip("_")
    return name if _NAME.fullmatch(name) else f"task_{name}".rstrip("_")


def _file_of(name: str, path: str, *, is_forced: bool) -> Path:
    """Return where the task of a name is written.

    Raises:
        ConfigError: it cannot have that name.
    """
    typed = f"stratos init {shlex.quote(path)} --name"
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {shown(name)}: a name has small letters, digits and underscores, and begins "
            f"with a letter. Type: {typed} {_name_of(name)}"
        )
    file = Path(USER_CONF) / "task" / f"{name}.yaml"
    shipped = shipped_choices("task").get(name)
    if shipped is not None and shipped.resolve() != file.resolve():
        raise ConfigError(
            f"--name {name}: Stratos ships a task of that name. Type: {typed} my_{name}"
        )
    if file.exists() and not is_forced:
        raise ConfigError(
            f"{file} is there already. Type {typed} <another name>, or --force to overwrite it."
        )
    return file


def task_yaml(name: str, facts: Facts) -> str:
    """Return the file of a task: what was found as comments, and the keys that are not defaults."""
    import yaml

    from stratos.probe.look.measure import settings

    base, keys = settings(facts)
    comments = [f"{_summary(facts)}.", f"  stratos run +task={name}"]
    if facts.labels:
        comments.append("Labels: " + ", ".join(f"{k} {n:,}" for k, n in _most(facts)))
    if facts.needs_skip:
        comments.append("on_error=skip leaves out the rows that cannot be used (stratos look).")
    if facts.n_unlabelled:
        comments.append(
            f"A teacher can label the {counted(facts.n_unlabelled, 'row', spec=',')} without an "
            "answer: add unlabelled_path, with the same file."
        )
    values = {k: uninterpolated(v) if isinstance(v, str) else v for k, v in keys.items()}
    node = {"defaults": [base, "_self_"], "name": name, **values}
    text = yaml.safe_dump(node, sort_keys=False, allow_unicode=True, width=1_000)
    return "".join(f"# {shown(comment, 200)}\n" for comment in comments) + text


def _most(facts: Facts) -> list[tuple[str, int]]:
    return [(shown(label, 40), n) for label, n in facts.labels.items()][:20]


def _summary(facts: Facts) -> str:
    labels = f", {counted(len(facts.labels), 'label')}" if facts.labels else ""
    return (
        f"{counted(facts.n_labelled, 'labelled row', spec=',')} of {shown(facts.path)}, text in "
        f"{shown(facts.text, 40)}, {facts.kind} in {shown(facts.answer, 40)}{labels}"
    )
