"""Pages of the site that are made: the start from README, every setting, reports of real runs."""

from __future__ import annotations

import gzip
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra_plugins.stratos_launchers._on_cluster import ClusterLauncher
from hydra_plugins.stratos_launchers._settings import PoolConfig, StudyConfig
from mkdocs.structure.files import File, Files

from stratos.cli.build import GROUPS
from stratos.cli.help import Group, Key, first_comment, groups, keys_of, shortened
from stratos.config import STAGES
from stratos.core.extensions import shipped_choices

ROOT = Path(__file__).parents[2]
CLUSTERS = sorted(
    (
        launcher
        for launcher in Plugins.instance().discover(Launcher)
        if issubclass(launcher, ClusterLauncher) and launcher is not ClusterLauncher
    ),
    key=lambda launcher: launcher.kind,
)
"""Launchers of the clusters that are here."""
LAUNCHERS = ", ".join(["basic", "pool", *(launcher.kind for launcher in CLUSTERS)])
COMMAND = (
    Key("stages", f"[{','.join(STAGES)}]", f"a list of {', '.join(STAGES)}",
        "Stages that run; records of the others are taken from the folder, or from "
        "paths.records_from."),
    Key("seed", "0", "a whole number",
        "Of everything that is drawn: items, weights, the order of training."),
    Key("hydra.run.dir", "outputs/<day>/<time>", "text",
        "Folder of the run. The same command in the folder of a run goes on from there."),
    Key("hydra.sweep.dir", "sweeps/<time>", "text", "With -m: folder of the sweep."),
    Key("hydra/launcher", "basic", f"one of {LAUNCHERS}",
        "With -m: one job after another, several at once, or on a cluster; see below."),
    Key("hydra/sweeper", "basic", "one of basic, study",
        "With -m: every combination, or what Optuna chooses; see below."),
)  # fmt: skip
"""Keys of no group."""
WHOLE = {
    "experiment": "A whole run under one name",
    "hparams_search": "A whole sweep under one name",
    "debug": "Short runs that look for mistakes",
}
HYDRA = {
    "hydra/launcher=pool": ("Jobs of a sweep in processes of this machine", PoolConfig),
    **{
        f"hydra/launcher={launcher.kind}": (
            (launcher.__doc__ or "").rstrip("."),
            launcher.settings_class,
        )
        for launcher in CLUSTERS
    },
    "hydra/sweeper=study": ("Optuna chooses what each job tries", StudyConfig),
}
MENU = ROOT / "mkdocs.yml"
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Leave pages out of the menu whose room of contrib is not here."""
    for entry in config["nav"]:
        for title, pages in entry.items():
            if isinstance(pages, list):
                entry[title] = [page for page in pages if not _is_gone(*page.values())]
    return config


def _is_gone(page: str) -> bool:
    """Return whether a page is of a room of contrib that is not here."""
    return page.startswith("contrib/") and not (ROOT / "docs" / page).exists()


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    start = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {"index.md": start.replace("](docs/", "]("), "settings.md": settings(groups())}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for report in sorted((ROOT / "docs" / "gallery").glob("*.html.gz")):
        name = f"gallery/{report.name.removesuffix('.gz')}"
        files.append(File.generated(config, name, content=gzip.decompress(report.read_bytes())))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Link to the start in place of README; name what is no page, or of a room that is not here."""
    folder = posixpath.dirname(page.file.src_uri)
    listed = {name for entry in yaml.safe_load(MENU.read_text())["nav"] for name in _pages(entry)}

    def named(link: re.Match[str]) -> str:
        to, mark, anchor = link["to"].partition("#")
        if "://" in to or not to:
            return link[0]
        path = posixpath.normpath(posixpath.join("docs", folder, to))
        if path == "README.md":
            start = posixpath.relpath("index.md", folder or ".")
            return f"[{link['text']}]({start}{mark}{anchor})"
        name = path.removeprefix("docs/")
        if files.get_file_from_path(name) is not None:
            return link[0]
        if name in listed and _is_gone(name):
            return link["text"]
        return link[0] if not (ROOT / path).exists() else f"`{path}`"

    return LINK.sub(named, markdown)


def _pages(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the pages of an entry of the menu."""
    for pages in entry.values():
        if isinstance(pages, str):
            yield pages
        else:
            yield from (page for one in pages for page in one.values())


def settings(found: list[Group]) -> str:
    """Return the page of every group, with its choices and its keys."""
    lines = [
        "# Settings",
        "",
        "Every key that a command takes, made from the classes that check it. `python -m stratos "
        "--help <group>` says the same, and `--help <group>=<choice>` the keys of one choice, "
        "where choices differ in theirs. Units are in the names: `_usd` dollars, `_hours`, "
        "`_minutes`, `_seconds`, `_ms` milliseconds, `_gib` 2^30 bytes, `_tokens`; a share or an "
        "accuracy is from 0 to 1. `null` is typed as it stands.",
        "",
        "## Of the command",
        *_table(COMMAND),
    ]
    for group in found:
        lines += ["", f"## {group.name}", ""]
        lines += [f"- `{group.typed}{name}`: {said or 'your own'}" for name, said in group.choices]
        lines += _table(group.keys) if group.name in GROUPS else _of_choices(group)
    for name in ("experiment", "hparams_search", "debug"):
        lines += ["", f"## {name}", "", f"{WHOLE[name]}. Their files are in `conf/{name}/`.", ""]
        lines += [
            f"- `{name}={choice}`: {first_comment(name, choice)}"
            for choice in shipped_choices(name)
        ]
    for typed, (said, schema) in HYDRA.items():
        group = typed.partition("=")[0].replace("/", ".")
        keys = [key for key in keys_of(group, schema) if not key.name.endswith("._target_")]
        lines += ["", f"## {typed}", "", f"{said}.", *_table(keys)]
    return "\n".join(lines) + "\n"


def _of_choices(group: Group) -> list[str]:
    """Return a table for all choices that are of one class, and so have the same keys."""
    alike: dict[str, list[str]] = {}
    files = shipped_choices(group.name)
    for name, _ in group.choices:
        choice = yaml.safe_load(files[name].read_text()) or {}
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
    rows += [[_code(key.name), _code(shortened(key.default)), _cell(key.kind), _cell(key.meaning)]
             for key in keys]  # fmt: skip
    shown = rows if with_defaults else [[row[0], *row[2:]] for row in rows]
    return ["", *(f"| {' | '.join(row)} |" for row in shown)]


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
