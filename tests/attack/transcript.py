"""Tables of bad inputs as transcripts: what is typed, and what is said.

    $ limits.budget_usd=-5
    limits.budget_usd=-5: expected a number of at least 0 or null.

What follows `$` is typed beside `command.BASE`; `$1` stands for a command that ends with code 1,
which got past the check and was refused before it paid. The lines below are those of standard
error; `…` stands for the rest of them, or of one. `{long}`, `{newline}`, `{escape}` and `{bidi}`
stand for characters that no line of a file should have. What is known (`Known: …`) is not compared.

    python tests/attack/transcript.py [name …]        writes down what is said now
    python tests/attack/transcript.py --new [name …]  the same of rows that say nothing yet
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


@dataclass(frozen=True)
class Row:
    """One command, and what it says."""

    file: str
    number: int
    text: str
    """What is typed, as it stands in the table."""
    code: int
    told: tuple[str, ...]

    @property
    def head(self) -> str:
        """Return its first line."""
        return _head(self.text, self.code)

    @property
    def typed(self) -> str:
        """Return what is typed."""
        return written_out(self.text)

    def differs(self, code: int, told: str) -> str | None:
        """Return how what was said differs from the table; None if it does not."""
        lines = written_in(told).splitlines()
        if code != self.code:
            return f"ended with {code}, not {self.code}: {lines[:_MOST_LINES]}"
        wanted = tuple(map(written_in, self.told))
        if wanted and wanted[-1] == REST:
            wanted = wanted[:-1]
            lines = lines[: len(wanted)]
        fits = len(lines) == len(wanted) and all(map(_fits, lines, wanted))
        return None if fits else f"said {lines}"


def _fits(line: str, wanted: str) -> bool:
    """Tell whether a line is as the table has it, which may leave out how it ends."""
    is_open = wanted.endswith(REST) and line.startswith(wanted.removesuffix(REST))
    return line == wanted or is_open


def rows() -> list[Row]:
    """Return every row of every table."""
    return [row for path in sorted(INPUTS.glob("*.txt")) for row in _read(path)]


def written_out(text: str) -> str:
    """Return a text of the table with what stands for other characters in their place."""
    for word, meant in WORDS.items():
        text = text.replace(word, meant)
    return text


def written_in(text: str) -> str:
    """Return what was said as it stands in the table."""
    text = re.sub("n{50,}", "{long}", text)
    text = re.sub("(Known(?: are)?): .*", rf"\1: {REST}", text)  # grows with every YAML
    return text.replace("\x1b", "{escape}").replace("\u202e", "{bidi}")


def _read(path: Path) -> Iterator[Row]:
    for number, block in enumerate(_blocks(path)):
        mark, _, text = block[0].partition(" ")
        yield Row(path.stem, number, text, int(mark[1:] or 2), tuple(block[1:]))


def _blocks(path: Path) -> Iterator[list[str]]:
    block: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith("$"):
            if block:
                yield _trimmed(block)
            block = []
        if block or line.startswith("$"):
            block.append(line)
    if block:
        yield _trimmed(block)


def _trimmed(block: list[str]) -> list[str]:
    while block[-1] == "":
        block = block[:-1]
    return block


def as_block(text: str, code: int, told: str) -> str:
    """Return a row as it stands in a table."""
    lines = written_in(told).splitlines()
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 3], REST]
    return "\n".join([_head(text, code), *lines]) + "\n"


def _head(text: str, code: int) -> str:
    return f"{'$' if code == 2 else f'${code}'} {text}"


def _write(names: list[str]) -> None:
    """Run every row of some tables, and write down what is said."""
    import tempfile

    from bad_files import make_all
    from command import place, run
    from good_model import good_gguf, make_good_model
    from server import Provider

    is_new_only, names = "--new" in names, [name for name in names if name != "--new"]
    with tempfile.TemporaryDirectory() as name, Provider() as teacher:
        root = Path(name) / "files"
        root.mkdir()
        make_all(root, make_good_model(Path(name)), good_gguf())
        for path in sorted(INPUTS.glob("*.txt")):
            if names and path.stem not in names:
                continue
            head = path.read_text().partition("$")[0]
            blocks = []
            for number, row in enumerate(_read(path)):
                if is_new_only and row.told:
                    blocks.append("\n".join([row.head, *row.told]) + "\n")
                    continue
                folder = place(root, Path(name) / f"{path.stem}-{number}")
                told = run(row.typed, teacher, folder)
                if told.n_paid or not told.code or "Traceback" in told.text:
                    print(f"{path.stem} {number}: code {told.code}, {told.n_paid} paid: {row.text}")
                blocks.append(as_block(row.text, told.code, told.text))
            path.write_text(head + "\n".join(blocks))


if __name__ == "__main__":
    import sys

    sys.path.append(str(Path(__file__).parents[1]))  # what all tests share
    _write(sys.argv[1:])
