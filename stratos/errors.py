"""The user's mistakes: each error says what was asked, why it cannot be, and what to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StratosError(Exception):
    """A mistake that the user can mend; shown as one message, never as a traceback."""


class ConfigError(StratosError):
    """The configuration cannot be run; the message lists everything that is wrong with it."""


class CatalogError(StratosError):
    """A catalog of offers is missing, empty or malformed."""


class InfeasibleError(StratosError):
    """No plan meets the limits; the message says what to relax and by how much."""


class TeacherError(StratosError):
    """No teacher can be loaded or reached."""


class EndpointError(TeacherError):
    """An endpoint cannot be asked, whatever the question; another of the same model may be."""


class BudgetError(StratosError):
    """The next step would pass the budget."""


def nearest(word: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return up to `n` known words that look like `word`, best first."""
    return difflib.get_close_matches(word, list(known), n=n, cutoff=0.5)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean x?" or an empty string."""
    found = nearest(word, known)
    return f" Did you mean {' or '.join(found)}?" if found else ""
