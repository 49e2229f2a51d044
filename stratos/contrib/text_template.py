"""Texts of other programs, such as configs and scripts, that lie as templates beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def filled(template: Path, **values: Any) -> str:
    """Return the text of a template of Jinja, in which nothing is escaped.

    Args:
        template: its file.
        values: what it is filled with; one that is lacking is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)
