"""What `--help` prints: a page of commands, groups and examples; `--help <group>`, its keys."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from stratos.cli.compose import CONFIG_NAME, hydra_for
from stratos.cli.verbs import summaries
from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.extensions import shipped_choices
from stratos.core.values import in_words, is_key, show

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


MEANINGS = {
    "task": "what the student must learn (required)",
    "cloud": "where servers may be rented",
    "limits": "money, time, latency and accuracy",
    "objective": "the objective of the plan",
    "teacher": "the model to learn from, or auto",
    "student": "the model to train, or auto",
    "strategy": "the distillation strategy, or auto",
    "complexity": "how hard the task is",
    "trainer": "how training runs",
    "callbacks": "checkpoints, validation, early stop",
    "executor": "which machines do the work",
    "deploy": "how the student is served",
    "logger": "where metrics go",
    "paths": "where files go",
    "experiment": "a whole run under one name",
    "hparams_search": "a whole sweep under one name",
    "debug": "a short run for debugging",
}
OVERRIDES = {
    "limits.budget_usd=20": "dollars for everything, serving included",
    "limits.latency_ms=300": "95th percentile of one answer",
    "stages=[probe,plan]": "measure and plan, then stop",
    "trainer.max_tokens=2000000": "training tokens: accuracy against time",
    "hydra.run.dir=outputs/mine": "name the run folder; the same command resumes there",
}
EXAMPLES = {
    "python -m stratos +task=mahjong cloud=aws": "a student, served and measured",
    "python -m stratos -m +task=mahjong student=stratos_300k,stratos_1m hydra/launcher=pool": (
        "several students side by side, compared on one page"
    ),
    "python -m stratos --config-dir ./mine +task=my_task": (
        "your own task: ./mine/task/my_task.yaml"
    ),
}


def page(config_dir: str | None = None) -> str:
    """Return the help page, with the choices of the user's own folder among the others."""
    with hydra_for(config_dir) as hydra:
        choices = {
            group: sorted(hydra.config_loader.get_group_options(group))
            for group in hydra.list_all_config_groups()
            if not group.startswith("hydra")
        }
    known = {group: choices.pop(group) for group in MEANINGS if group in choices}
    lines = [
        "Stratos: distil a small language model for a narrow task, within a budget.",
        "",
        "  python -m stratos +task=<name> [group=choice ...] [group.key=value ...]",
        "  stratos <command> ...",
        "",
        "Commands (python -m stratos is stratos, and run may be left out)",
    ]
    lines += [f"  {verb:<12} {summary}" for verb, summary in summaries().items()]
    lines += ["", "Choices of run and plan"]
    for group, names in {**known, **choices}.items():
        shown = f"{'+' if group == 'task' else ''}{group}="
        lines.append(f"  {shown:<16} {MEANINGS.get(group, 'your own')}")
        lines += textwrap.wrap(
            " ".join(names), 90, initial_indent=" " * 19, subsequent_indent=" " * 19,
            break_on_hyphens=False,
        )  # fmt: skip
    lines += ["", "Five overrides worth knowing"]
    lines += [f"  {override:<27} {meaning}" for override, meaning in OVERRIDES.items()]
    lines += ["", "Examples"]
    for command, meaning in EXAMPLES.items():
        lines += [f"  {command}", f"      {meaning}"]
    lines += [
        "",
        "Flags",
        "  COMMAND --help     the arguments of a command",
        "  --help GROUP       every key of a group, with type, default and meaning; of a choice: "
        "--help trainer=lora",
        "  --quiet, --verbose of run and plan: the verdict alone; all that explains the plan",
        "  --json             of run and plan: one line of JSON on stdout, all else on stderr",
        "  --watch            of run and plan: a page that shows the run while it works",
        "  --version          the version of Stratos",
        "  --config-dir DIR   a folder of your own choices: DIR/<group>/<name>.yaml",
        "  --cfg job          print every key and value, and stop (with the overrides applied)",
        "  -m                 run once for each of several values: student=a,b",
        "  --hydra-help       the flags and settings of Hydra itself",
    ]
    return "\n".join(lines)


_WIDTH = 96
_LONGEST_DEFAULT = 60


@dataclass(frozen=True)
class Key:
    """A key of the config, as it is typed."""

    name: str
    """Such as "trainer.max_steps"."""
    default: str
    kind: str
    """What it takes, in words."""
    meaning: str


@dataclass(frozen=True)
class Group:
    """A group of the config, or one choice of it."""

    name: str
    """Such as "trainer", or "trainer=lora"."""
    choices: tuple[tuple[str, str], ...]
    """Name of each choice, and what its file says first."""
    keys: tuple[Key, ...]
    """None where the choices differ in theirs."""

    @property
    def typed(self) -> str:
        """How a choice is typed, without its name."""
        return f"{'+' if self.name == 'task' else ''}{self.name}="


def group_page(names: Sequence[str], config_dir: str | None = None) -> str:
    """Return the keys of groups, or of named choices of them, as a terminal shows them.

    Args:
        names: each a group ("trainer") or a choice of one ("trainer=lora", "+task=classify").
        config_dir: folder of the user's own choices.

    Raises:
        ConfigError: there is no such group or choice.
    """
    return "\n\n".join("\n".join(_lines(group)).rstrip() for group in groups(names, config_dir))


def groups(names: Sequence[str] | None = None, config_dir: str | None = None) -> list[Group]:
    """Return what there is to know of groups, or of named choices of them.

    Args:
        names: see `group_page`; None for every group.
        config_dir: folder of the user's own choices.

    Raises:
        ConfigError: there is no such group or choice.
    """
    with hydra_for(config_dir) as hydra:
        return [_group(name, hydra) for name in (_names() if names is None else names)]


def _names() -> list[str]:
    from stratos.cli.build import CANDIDATES, GROUPS, TARGETS  # takes half as long as the page

    return sorted({*TARGETS, *CANDIDATES, *GROUPS})


def _group(typed: str, hydra: Hydra) -> Group:
    group, _, choice = typed.lstrip("+").partition("=")
    choices = sorted(hydra.config_loader.get_group_options(group)) if group else []
    known = _names()
    if group not in known:
        raise ConfigError(
            f"--help {typed}: there is no group {group}.{did_you_mean(group, known)} Known: "
            f"{', '.join(known)}."
        )
    if choice and choice not in choices:
        raise ConfigError(
            f"--help {typed}: there is no {group} {choice}.{did_you_mean(choice, choices)} Known: "
            f"{', '.join(choices) or 'none'}."
        )
    node = OmegaConf.select(_composed(group, choice, hydra), group)
    schema = _schema_of(group, node)
    return Group(
        name=f"{group}={choice}" if choice else group,
        choices=() if choice else tuple((name, first_comment(group, name)) for name in choices),
        keys=() if schema is None else tuple(keys_of(group, schema, node)),
    )


def _lines(group: Group) -> list[str]:
    lines = [group.name, ""]
    if group.choices:
        lines.append(
            f"Choices, as {group.typed}<name> (the keys of one: --help {group.name}=<name>):"
        )
        for name, meaning in group.choices:
            lines += textwrap.wrap(
                meaning or "your own", _WIDTH, initial_indent=f"  {name:<22} ",
                subsequent_indent=" " * 25,
            )  # fmt: skip
        lines.append("")
    if group.keys:
        lines.append("Keys and their defaults:")
    for key in group.keys:
        lines.append(f"  {key.name}={shortened(key.default)}")
        meaning = f"{key.kind.capitalize()}. {key.meaning}"
        lines += textwrap.wrap(meaning, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def shortened(text: str) -> str:
    """Return a default that fits into a line."""
    return text if len(text) <= _LONGEST_DEFAULT else f"{text[: _LONGEST_DEFAULT - 1]}…"


def _composed(group: str, choice: str, hydra: Hydra) -> DictConfig:
    from hydra.types import RunMode

    plus = "+" if group == "task" else ""
    overrides = [f"{plus}{group}={choice}"] if choice else []
    return hydra.compose_config(CONFIG_NAME, overrides, RunMode.RUN, with_log_configuration=False)


def _schema_of(group: str, node: Any) -> type | None:
    """Return the dataclass of a group, or of a choice of it; None where choices differ in keys."""
    from stratos.cli.build import GROUPS, schema_of

    if group in GROUPS:
        return GROUPS[group]
    if not isinstance(node, DictConfig) or "candidates" in node:
        return None
    return schema_of(OmegaConf.create({group: node}), group)


def first_comment(group: str, name: str) -> str:
    """Return the first sentences of a shipped choice's file."""
    file = shipped_choices(group).get(name)
    if file is None:
        return ""
    lines: list[str] = []
    for line in file.read_text().splitlines():
        if not line.startswith("# ") or line.startswith(("#   ", "# @")):
            if lines or not line.startswith("# @"):
                break
            continue
        lines.append(line.removeprefix("# "))
    return " ".join(lines)


def keys_of(group: str, schema: type, node: Any = None) -> Iterator[Key]:
    """Yield the keys that are the fields of a dataclass.

    Args:
        group: what stands before the point of each.
        schema: the dataclass.
        node: composed defaults, which go before those of the class.
    """
    hints = get_type_hints(schema, include_extras=True)
    meanings = meanings_of(schema)
    for field in dataclasses.fields(schema):
        if is_key(field):
            yield Key(
                f"{group}.{field.name}", _default(field, node), in_words(hints[field.name]),
                meanings.get(field.name, ""),
            )  # fmt: skip


def _default(field: dataclasses.Field[Any], node: Any) -> str:
    """Return a key's default as it is typed: the file's, else the class's."""
    if isinstance(node, DictConfig) and field.name in node:
        if OmegaConf.is_missing(node, field.name):
            return "<required>"
        raw = OmegaConf.to_container(node, resolve=False)
        value = raw[field.name] if isinstance(raw, Mapping) else None
    elif field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "<required>"
    return show(list(value) if isinstance(value, tuple) else value)


def meanings_of(schema: type) -> dict[str, str]:
    """Return field to the documentation that stands under it, in a class and those it extends."""
    meanings: dict[str, str] = {}
    for cls in reversed(schema.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        [body] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                meaning = " ".join(str(following.value.value).split())
                meanings[statement.target.id] = re.sub(r"\bNone\b", "null", meaning)
    return meanings
