"""Files beside the code: tables, and texts of other programs as templates, such as scripts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def table(module: str, name: str) -> dict[str, Any]:
    """Return what a TOML file beside a module holds.

    Args:
        module: its `__file__`.
        name: of the file.
    """
    return tomllib.loads(Path(module).with_name(name).read_text(encoding="utf-8"))


def filled(module: str, name: str, /, **values: Any) -> str:
    """Return the text of a template of Jinja beside a module, in which nothing is escaped.

    Args:
        module: its `__file__`.
        name: of the template.
        values: what it is filled with; one that is lacking is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = Path(module).with_name(name).read_text(encoding="utf-8")
    return environment.from_string(template).render(values)
