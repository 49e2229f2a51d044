"""Render a template into one self-contained page with a strict content security policy.

Every expression of a template is escaped and made visible (`printable.visible`), and the page
carries a content security policy that allows exactly one script, by its hash: even text that
slipped through as markup could load and run nothing.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stratos.core import formats
from stratos.core.extensions import rooms_folder
from stratos.core.formats import visible
from stratos.records import to_plain

_FOLDER = Path(__file__).parent / "templates"
_SCRIPTS = ("page.js", "sweep.js")


def render(template: str, **values: Any) -> bytes:
    """Render a page as UTF-8."""
    script = "\n".join((_FOLDER / name).read_text() for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template(template).render(
        style=Markup((_FOLDER / "style.css").read_text()),
        script=Markup(script),
        policy=(
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        **values,
    )  # fmt: skip
    return page.encode()


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        # Sections of the page that rooms add lie below `contrib`.
        loader=jinja2.FileSystemLoader([_FOLDER, rooms_folder()]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.policies["json.dumps_kwargs"] = {}  # figures keep their order
    environment.filters.update(formats.FILTERS, plain=to_plain)
    return environment


def _finalize(value: Any) -> Any:
    if isinstance(value, Markup):
        return value
    return visible(value) if isinstance(value, str) else value
