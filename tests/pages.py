"""README and the pages of docs/, and what they say where a room of contrib is not here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRIB = ROOT / "docs" / "contrib"
PAGES = tuple(sorted((ROOT / "docs").rglob("*.md")))
SKILL = ROOT / "skills" / "stratos" / "SKILL.md"
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "AGENTS.md", SKILL, *PAGES)
_LINK = re.compile(r"\]\(([\w./]+\.md)(?:#[\w-]*)?\)")
_ITEM = re.compile(r"[-*] |\d+\. |#")
_FENCES = {"```": "```", "<!-- figures": "<!-- /figures"}
"""What begins code or figures, and what ends them."""


def text_of(page: Path) -> str:
    """Return a page without what it says of rooms of contrib that are not here.

    These are the rows of tables, the paragraphs and the items of lists that link to a page of
    `docs/contrib` which is not there, each with the code, table and figures that follow it.
    """
    kept = []
    is_left_out = False
    for is_owned, block in _blocks(page.read_text()):
        is_here = all(linked.exists() for linked in contrib_pages(block, page))
        if not is_owned:
            is_left_out = not is_here
        if is_here and not is_left_out:
            kept.append(block)
    return "".join(kept)


def contrib_pages(text: str, page: Path) -> list[Path]:
    """Return the pages of `docs/contrib` that a text of a page links to, there or not."""
    linked = (Path(os.path.normpath(page.parent / link)) for link in _LINK.findall(text))
    return [one for one in linked if one.parent == CONTRIB]


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the parts of a page, and whether each belongs to the prose before it."""
    lines = text.splitlines(keepends=True)
    at = 0
    while at < len(lines):
        start, line = at, lines[at]
        at += 1
        end = next((end for begin, end in _FENCES.items() if line.startswith(begin)), None)
        is_owned = end is not None or line.startswith(("|", "    "))
        if end is not None:
            while at < len(lines) and not lines[at].startswith(end):
                at += 1
            at += 1
        elif not is_owned and not line.startswith("#"):  # a paragraph, or an item of a list
            while at < len(lines) and lines[at].strip() and not _begins_another(lines[at]):
                at += 1
        while at < len(lines) and not lines[at].strip():
            at += 1
        yield is_owned, "".join(lines[start:at])


def _begins_another(line: str) -> bool:
    return _ITEM.match(line) is not None or line.startswith(("|", *_FENCES))
