"""Where the YAMLs lie that are shipped: those of the core, and of each package of contrib."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """Return the folder of the core's config groups: beside the package, or in it in a wheel."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def contrib_conf_dirs() -> dict[str, Path]:
    """Return each package of contrib that has choices of config groups, and their folder."""
    folders = sorted((_PACKAGE / "contrib").glob("*/conf"))
    return {folder.parent.name: folder for folder in folders if any(folder.rglob("*.yaml"))}


def conf_dirs() -> tuple[Path, ...]:
    """Return every folder of config groups, the core's first."""
    return conf_dir(), *contrib_conf_dirs().values()


def shipped_choices(group: str) -> dict[str, Path]:
    """Return the shipped choices of a config group and their files, in the order of their names."""
    files = [file for folder in conf_dirs() for file in (folder / group).glob("*.yaml")]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}
