"""Where the YAMLs lie that are shipped."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """Return the folder of the config groups: beside the package, or inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
