"""The page of all commands: verbs from their parsers, choices and keys from the config groups."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from contextlib import suppress

from figures_of.tables import table
from stratos.cli.help import MEANINGS, first_comment, groups
from stratos.cli.verbs import HYDRA, OURS, commands
from stratos.core.errors import ConfigError
from stratos.core.extensions import shipped_choices

VERB_PAGES = {
    "run": "tasks.md",
    "plan": "planner.md",
    "demo": "tutorial_file.md",
    "look": "look.md",
    "init": "look.md#keep-it-as-a-task",
    "status": "tracking.md",
    "compare": "tracking.md",
    "serve": "hosting.md",
    "verify": "hosting.md#publish-a-bundle",
    "report": "sweeps.md",
    "ledger": "teachers.md",
    "sweep": "sweeps.md",
    "servers": "executors.md",
}
"""Where the docs tell more of a verb."""
GROUP_PAGES = {
    "task": "tasks.md",
    "cloud": "catalog.md",
    "limits": "planner.md",
    "objective": "planner.md#objectives",
    "teacher": "teachers.md",
    "student": "kinds.md",
    "strategy": "choice.md",
    "complexity": "choice.md",
    "trainer": "distillation.md#training",
    "callbacks": "distillation.md#training",
    "executor": "executors.md",
    "deploy": "hosting.md#serving-engines",
    "logger": "tracking.md#loggers",
    "paths": "robustness.md",
    "experiment": "tutorial_gsm8k.md",
    "hparams_search": "sweeps.md",
    "debug": "robustness.md",
}
KEYS = (
    ("limits.budget_usd", "planner.md"),
    ("limits.latency_ms", "planner.md"),
    ("limits.accuracy", "planner.md"),
    ("limits.serve_hours", "planner.md"),
    ("traffic.requests_per_s", "planner.md#serving-a-request-rate"),
    ("traffic.requests_per_day", "worth.md"),
    ("cloud.residency", "planner.md#data-residency"),
    ("cloud.marketplaces", "planner.md#data-residency"),
    ("cloud.spot", "planner.md#spot"),
    ("cloud.max_usd_per_hour", "planner.md#spot"),
    ("cloud.quotas", "planner.md#spot"),
    ("cloud.catalog", "catalog.md"),
    ("plan.explain", "planner.md"),
    ("plan.pilot", "accuracy.md"),
    ("objective.usd_per_accuracy_point", "planner.md#objectives"),
    ("objective.usd_per_hour_of_waiting", "planner.md#objectives"),
    ("objective.usd_per_100ms", "planner.md#objectives"),
    ("deploy.keep", "hosting.md"),
    ("deploy.push_to", "hosting.md#publish-a-bundle"),
    ("paths.mirror", "robustness.md#a-copy-behind-a-url"),
    ("cascade.accuracy", "contrib/cascade.md"),
    ("synthesize.engine", "contrib/ray.md"),
)
"""Keys that change what a run is for, and where the docs tell more."""
_MANY = re.compile(r": (?P<what>hosted|[\d.]+[MB] parameters, weights from the hub)\b")
"""What the choices say that are many of a kind."""


LEAST_WORDS = 3
"""A shorter sentence says nothing: "The plan chooses."."""


def verbs() -> str:
    """Return each verb with its arguments."""
    rows = [[f"`{verb}`", "`group=choice group.key=value …`", what, _link(VERB_PAGES[verb])]
            for verb, what in HYDRA.items()]  # fmt: skip
    for verb, command in commands().items():
        module = importlib.import_module(command.module)
        parser = argparse.ArgumentParser(prog=verb, allow_abbrev=False, add_help=False)
        module.add_arguments(parser)
        usage = re.sub(r"^usage: (stratos )?\S+ ?", "", " ".join(parser.format_usage().split()))
        room = command.module.removeprefix("stratos.contrib.").partition(".")[0]
        page = VERB_PAGES[verb] if verb in OURS else f"contrib/{room}.md"
        rows.append([f"`{verb}`", f"`{_cell(usage)}`", _cell(command.summary), _link(page)])
    return table(("verb", "behind it", "what it does", "more"), rows)


def choices() -> str:
    """Return each choice of each group, with what its file says first."""
    return "\n\n".join(
        f"**{group}**: {meaning} ({_link(GROUP_PAGES[group])})\n\n"
        f"{table(('you type', 'what it is'), _choices(group))}"
        for group, meaning in MEANINGS.items()
    )


def _choices(group: str) -> Iterator[list[str]]:
    typed = f"{'+' * (group == 'task')}{group}="
    alike: dict[str, list[str]] = {}
    for name, path in shipped_choices(group).items():
        comment = first_comment(group, name)
        many = _MANY.search(comment)
        if many:
            alike.setdefault(many["what"].split()[-1], []).append(f"`{name}`")
            continue
        text = _cell(_first_sentence(comment))
        if "contrib" in path.parts:
            text += f" ({_link(f'contrib/{path.parents[2].name}.md')})"
        yield [f"`{typed}{name}`", text]
    for what, names in alike.items():
        text = "hosted; its key comes from the environment"
        text = text if what == "hosted" else "its weights come from the hub"
        yield [f"`{typed}…`", f"{', '.join(names)}: {text} ({_link('teachers.md#cards')})"]


def keys() -> str:
    """Return the keys that change what a run is for, as their classes describe them."""
    known = {}
    for name in sorted({name.partition(".")[0] for name, _ in KEYS}):
        with suppress(ConfigError):  # a group of a room of contrib that is not here
            known |= {key.name: key for group in groups([name]) for key in group.keys}
    rows = [[f"`{name}`", _cell(known[name].kind), _cell(known[name].meaning), _link(page)]
            for name, page in KEYS if name in known]  # fmt: skip
    return table(("key", "takes", "meaning", "more"), rows)


def _first_sentence(text: str) -> str:
    """Return the first sentence that says something, without its full stop."""
    sentences = re.split(r"(?<!et al)\.(?: |$)", text)
    return next((words for words in sentences if words.count(" ") >= LEAST_WORDS), sentences[0])


def _link(page: str) -> str:
    name = page.rpartition("/")[2].partition(".")[0]
    return f"[{name}]({page})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


BLOCKS = {"verbs": verbs, "choices": choices, "keys": keys}
