"""What README and the pages of docs/ tell to type, and the files that it needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pages import DOCUMENTS, ROOT, text_of

from stratos.cli.verbs import HIDDEN, summaries

__all__ = ["DOCUMENTS", "ROOT", "Command", "commands"]

_START = re.compile(r"(?P<python>python -m\s+)?(?<![\w./-])stratos(?=\s+(?P<next>[^\s`|]+)|`)")
_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|\\.|[^\s'"\\`])+""")
_BEFORE = re.compile(r"(?:\b[A-Z_]+=\S+\s+)+$")
_ENDS = (";", "|", "||", "&&", "&", ">", "<", "→")
_BLANK = re.compile(r"[ \t]+")
_BLANK_INLINE = re.compile(r"[ \t]+|[ \t]*\n(?!\n)[ \t]*")
VERBS = {*summaries(), *HIDDEN}
_PLACE = re.compile(r"<([\w ]+)>")
"""What the reader fills in, such as <run>."""


@dataclass(frozen=True)
class Command:
    """A command line of a page."""

    page: str
    words: tuple[str, ...]
    """All behind `stratos`, as a shell hands them over; `<run>` has become `run`."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables that stand before it."""
    is_inline: bool = False
    """Within a sentence, where it may be no more than the name of a command."""

    @property
    def verb(self) -> str:
        """Return its verb; "" where its words are overrides of Hydra."""
        return self.words[0] if self.words and not _is_override(self.words[0]) else ""

    def __str__(self) -> str:
        return " ".join(["stratos", *self.words])


def commands(path: Path) -> list[Command]:
    """Return every command line of a page: `python -m stratos …` and `stratos …`, each once."""
    text = re.sub(r"\\\n\s*", " ", text_of(path))
    text = _PLACE.sub(lambda place: place[1].replace(" ", "_"), text)
    found = []
    for start in _START.finditer(text):
        if not _is_command(start, text):
            continue
        before = _BEFORE.search(text, max(0, start.start() - 200), start.start())
        env = [one.split("=", 1) for one in before[0].split()] if before else []
        is_inline = _is_inline(text, start.start())
        words = _words(text[start.end() :], is_inline)
        pairs = tuple((key, value) for key, value in env)
        found.append(Command(path.name, words, pairs, is_inline))
    return list(dict.fromkeys(found))


def _is_command(start: re.Match[str], text: str) -> bool:
    """Tell a command line from a name: of the folder, of the package."""
    if start["python"]:
        return True
    following = start["next"]
    if following is None:
        return False
    # Where a line of code begins, any word is taken for a verb: a test says if it is none.
    line = text[text.rfind("\n", 0, start.start()) + 1 : start.start()]
    begins = text[: start.start()].endswith("`") or line == " " * 4
    is_word = re.fullmatch("[a-z]+", following) is not None
    return following in VERBS or _is_override(following) or (begins and is_word)


def _is_override(word: str) -> bool:
    return "=" in word or word.startswith(("+", "-", "~"))


def _is_inline(text: str, at: int) -> bool:
    """Return whether a place is within `code` of a line: after an odd number of marks."""
    paragraph = text.rfind("\n\n", 0, at) + 1
    line = text.rfind("\n", 0, at) + 1
    if text[line:at].startswith("    "):
        return False
    return text.count("`", paragraph, at) % 2 == 1 and "```" not in text[paragraph:at]


def _words(text: str, is_inline: bool) -> tuple[str, ...]:
    words: list[str] = []
    at = 0
    while at < len(text):
        blank = (_BLANK_INLINE if is_inline else _BLANK).match(text, at)
        at = blank.end() if blank else at
        word = _WORD.match(text, at)
        if word is None or word[0] in _ENDS or word[0].startswith(("#", "(")):
            break
        ends = not is_inline and word[0].endswith(";")
        words.append(_unquoted(word[0].removesuffix(";") if ends else word[0]))
        at = word.end()
        if ends:
            break
    return tuple(words)


def _unquoted(word: str) -> str:
    return re.sub(r"""'([^']*)'|"([^"]*)"|\\(.)""", lambda m: m[1] or m[2] or m[3] or "", word)
