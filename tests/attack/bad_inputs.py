"""Tables of bad inputs: what users type beside `command.BASE`, one command a line.

    $ limits.budget_usd=-5

`$1` stands for a command that ends with code 1, which got past the check and was refused before it
paid. `{long}`, `{newline}`, `{escape}` and `{bidi}` stand for characters that no line of a file
should have. What is said is kept in `__snapshots__/test_inputs.ambr`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INPUTS = Path(__file__).with_name("inputs")
WORDS = {"{long}": "n" * 300, "{newline}": "\n", "{escape}": "\x1b", "{bidi}": "\u202e"}
REST = "…"
_MOST_LINES = 6
_OPEN = {
    r"(Known(?: are)?): .*": rf"\1: {REST}",  # grows with every YAML
    r"(repository content at) [^ )]*": rf"\1 {REST}",  # a path, cut at some length
}
"""What is not compared: a pattern, and what stands in a snapshot."""


@dataclass(frozen=True)
class Row:
    """One command."""

    file: str
    text: str
    """What is typed, as it stands in the table."""
    code: int

    @property
    def typed(self) -> str:
        """Return what is typed."""
        text = self.text
        for word, meant in WORDS.items():
            text = text.replace(word, meant)
        return text


def rows() -> list[Row]:
    """Return every row of every table."""
    return [row for path in sorted(INPUTS.glob("*.txt")) for row in _read(path)]


def _read(path: Path) -> Iterator[Row]:
    for line in path.read_text().splitlines():
        if line.startswith("$"):
            mark, _, text = line.partition(" ")
            yield Row(path.stem, text, int(mark[1:] or 2))


def written_in(text: str) -> str:
    """Return what was said as a snapshot has it: its first lines, if there are many."""
    text = re.sub("n{50,}", "{long}", text)
    for pattern, meant in _OPEN.items():
        text = re.sub(pattern, meant, text)
    lines = text.replace("\x1b", "{escape}").replace("\u202e", "{bidi}").splitlines()
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 3], REST]
    return "\n".join(lines)
