"""Pages of the site that are made, not written: the start, from README, and every setting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from mkdocs.structure.files import File, Files

from stratos.cli.build import GROUPS
from stratos.cli.help.keys import Group, Key, groups
from stratos.core.conf import conf_dir

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    start = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {"index.md": start.replace("](docs/", "]("), "settings.md": settings(groups())}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Name a file of the repository that is no page, in place of a link to it."""

    def named(link: re.Match[str]) -> str:
        to = link["to"].partition("#")[0]
        if "://" in to or not to or files.get_file_from_path(to) is not None:
            return link[0]
        path = to.removeprefix("../")
        return link[0] if not (ROOT / path).exists() else f"`{path}`"

    return LINK.sub(named, markdown)


def settings(found: list[Group]) -> str:
    """Return the page of every group, with its choices and its keys."""
    lines = [
        "# Settings",
        "",
        "Every group of the config, with its choices and its keys. `python -m stratos --help "
        "<group>` says the same, and `--help <group>=<choice>` the keys of one choice, where "
        "choices differ in theirs.",
    ]
    for group in found:
        lines += ["", f"## {group.name}", ""]
        lines += [f"- `{group.typed}{name}`: {said or 'your own'}" for name, said in group.choices]
        lines += _table(group.keys) if group.name in GROUPS else _of_choices(group)
    return "\n".join(lines) + "\n"


def _of_choices(group: Group) -> list[str]:
    """Return a table for all choices that are of one class, and so have the same keys."""
    alike: dict[str, list[str]] = {}
    for name, _ in group.choices:
        choice = yaml.safe_load((conf_dir() / group.name / f"{name}.yaml").read_text()) or {}
        if "candidates" not in choice:
            alike.setdefault(choice.get("_target_", ""), []).append(f"{group.typed}{name}")
    lines = []
    for choices in alike.values():
        [one] = groups(choices[:1])
        if one.keys:
            lines += ["", f"Keys of {', '.join(f'`{choice}`' for choice in choices)}:"]
            lines += _table(one.keys, with_defaults=len(choices) == 1)
    return lines


def _table(keys: Sequence[Key], with_defaults: bool = True) -> list[str]:
    head = ["key", "default", "what it takes", "meaning"]
    rows = [head, ["---"] * len(head)]
    rows += [[_code(key.name), _code(key.default), _cell(key.kind), _cell(key.meaning)]
             for key in keys]  # fmt: skip
    shown = rows if with_defaults else [[row[0], *row[2:]] for row in rows]
    return ["", *(f"| {' | '.join(row)} |" for row in shown)]


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
