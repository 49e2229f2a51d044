"""A page of logged answers that are doubtful, to look at."""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import islice
from pathlib import Path

from stratos.contrib.logs.messages import LogTask
from stratos.contrib.logs.messages.conversation import history_of
from stratos.core.atomic_files import write_atomically
from stratos.core.printable import visible
from stratos.tasks.table import Row

_OF_EACH = 25
"""Answers that are shown of each reason."""
_LONGEST = 1500
_STYLE = (
    "body{font:15px system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%;table-layout:fixed}"
    "td,th{border:1px solid #ccc;padding:.4rem;vertical-align:top;text-align:left}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}th:first-child{width:7rem}"
)


def write_page(task: LogTask, path: Path) -> int:
    """Write the page; return how many answers are doubtful.

    Raises:
        StratosError: it cannot be written.
    """
    counts = Counter(why for why, _ in task.doubtful)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Doubtful answers</title>",
        f"<style>{_STYLE}</style><h1>Doubtful answers of {_text(task.path)}</h1>",
        f"<p>{counts.total():,} answers are not used. A check may be wrong: if most of these "
        "answers are right, type task.answers=trust.</p>",
    ]
    for why, n in counts.most_common():
        parts.append(f"<h2>{n:,}: {_text(str(why))}</h2>")
        if n > _OF_EACH:
            parts.append(f"<p>The first {_OF_EACH}.</p>")
        parts.append("<table><tr><th>row</th><th>last message</th><th>logged answer</th></tr>")
        rows = (row for reason, row in task.doubtful if reason == why)
        parts += map(_row, islice(rows, _OF_EACH))
        parts.append("</table>")
    write_atomically(path, "\n".join([*parts, "</html>", ""]).encode("utf-8", "replace"))
    return counts.total()


def _row(row: Row) -> str:
    asked = history_of(row.question)[-1]["content"]
    cells = (f"<td><pre>{_text(text)}</pre></td>" for text in (row.line, asked, row.answer))
    return f"<tr>{''.join(cells)}</tr>"


def _text(text: str) -> str:
    return escape(visible(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"))
