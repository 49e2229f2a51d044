"""The page of all commands: verbs from their parsers, choices and keys from the config groups."""

from __future__ import annotations

from contextlib import suppress

from figures_of.tables import table
from stratos.cli.help import MEANINGS, groups
from stratos.cli.verbs import HYDRA, OURS, commands
from stratos.core.errors import ConfigError
from stratos.core.extensions import shipped_choices

VERB_PAGES = {
    "run": "tasks.md",
    "plan": "planner.md",
    "demo": "install.md",
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
    ("cloud.spot", "planner.md#spot"),
    ("cloud.catalog", "catalog.md"),
    ("plan.explain", "planner.md"),
    ("plan.pilot", "accuracy.md"),
    ("deploy.keep", "hosting.md"),
    ("deploy.push_to", "hosting.md#publish-a-bundle"),
    ("paths.mirror", "robustness.md#a-copy-behind-a-url"),
    ("cascade.accuracy", "contrib/cascade.md"),
    ("synthesize.engine", "contrib/ray.md"),
)
"""Keys that change what a run is for, and where the docs tell more."""


def verbs() -> str:
    """Return each verb, what it does, and where the docs tell more."""
    rows = [[f"`{verb}`", what, _link(VERB_PAGES[verb])] for verb, what in HYDRA.items()]
    for verb, command in commands().items():
        room = command.module.removeprefix("stratos.contrib.").partition(".")[0]
        page = VERB_PAGES[verb] if verb in OURS else f"contrib/{room}.md"
        rows.append([f"`{verb}`", _cell(command.summary), _link(page)])
    return table(("verb", "what it does", "more"), rows)


def choices() -> str:
    """Return each group with the names of its choices; those of a room of contrib with its page."""
    lines = []
    for group, meaning in MEANINGS.items():
        names: dict[str, list[str]] = {}
        for name, path in shipped_choices(group).items():
            room = path.parents[2].name if "contrib" in path.parts else ""
            names.setdefault(room, []).append(f"`{name}`")
        core = ", ".join(names.pop("", []))
        lines.append(f"- **{group}**, {meaning} ({_link(GROUP_PAGES[group])}): {core}")
        lines += [f"    - {_link(f'contrib/{room}.md')}: {', '.join(of_room)}"
                  for room, of_room in names.items()]  # fmt: skip
    return "\n".join(lines)


def keys() -> str:
    """Return the keys that change what a run is for, by the page that tells more."""
    known: set[str] = set()
    for name in sorted({name.partition(".")[0] for name, _ in KEYS}):
        with suppress(ConfigError):  # a group of a room of contrib that is not here
            known |= {key.name for group in groups([name]) for key in group.keys}
    pages: dict[str, list[str]] = {}
    for name, page in KEYS:
        if name in known:
            pages.setdefault(page, []).append(f"`{name}`")
    rows = [[", ".join(names), _link(page)] for page, names in pages.items()]
    return table(("keys", "more"), rows)


def _link(page: str) -> str:
    name = page.rpartition("/")[2].partition(".")[0]
    return f"[{name}]({page})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


BLOCKS = {"verbs": verbs, "choices": choices, "keys": keys}
