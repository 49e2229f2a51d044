"""User errors: each message says what was asked, why it cannot work, and what to type."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass


class StratosError(Exception):
    """A mistake that the user can mend; shown as one message, never as a traceback."""


class ConfigError(StratosError):
    """The configuration cannot be run; the message lists everything that is wrong with it."""


class UsageError(ConfigError):
    """Words of a command line do not go together; shown below the usage of the command."""


class CatalogError(StratosError):
    """A catalog of offers is missing, empty or malformed."""


class ForeignFileError(StratosError):
    """A file that something else wrote cannot be read; the message has its path and the cause."""


@dataclass(frozen=True)
class Remedy:
    """A change of the settings that is enough, and what the plan that it allows comes to."""

    text: str
    """As a reader would say it: "budget $40 → $52.10"."""
    overrides: tuple[str, ...]
    """As they are typed: ("limits.budget_usd=52.10",)."""
    usd: float
    hours: float
    """Until the student is trained."""
    latency_ms: float
    """95th percentile of an answer."""
    accuracy: float | None
    """Predicted share of right answers; None where nothing is known of it."""


class InfeasibleError(StratosError):
    """No plan meets the limits; the message says what to relax and by how much.

    Args:
        text: what the user reads.
        remedies: changes of which each is enough, with everything else unchanged.
        left_out: what could not be chosen (a teacher, a student, a pair), and why.
    """

    def __init__(
        self, text: str, remedies: Sequence[Remedy] = (), left_out: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.remedies = tuple(remedies)
        self.left_out = dict(left_out or {})


class NothingLearntError(StratosError):
    """A student has no right answer: nothing more is trained, measured or bundled."""


class TeacherError(StratosError):
    """No teacher can be loaded or reached."""


class EndpointError(TeacherError):
    """An endpoint cannot be asked, whatever the question; another of the same model may be."""


class BusyError(StratosError):
    """Another process works in the run folder, which is therefore left as it is."""


class BudgetError(StratosError):
    """The next step would pass the budget."""


class CapacityError(StratosError):
    """A server that the plan chose cannot be had now.

    Args:
        text: what the user reads.
        server: as `cloud.quotas` names it: cloud/region/instance type.
    """

    def __init__(self, text: str, server: str) -> None:
        super().__init__(text)
        self.server = server


class OverspentError(StratosError):
    """More was billed than was set aside: the budget is passed, and nothing more is paid.

    Args:
        text: what the user reads.
        why: what passed it, as sentences.
    """

    def __init__(self, text: str, why: str) -> None:
        super().__init__(text)
        self.why = why


@contextlib.contextmanager
def first_cause(warn: Callable[[str], None]) -> Iterator[list[StratosError]]:
    """Raise the first error of a block, where what cleans up behind it fails, too.

    Args:
        warn: says what failed in cleaning up.

    Yields:
        A list for the error of the block. An error that is raised `from` it says the same in better
        words, and stays.
    """
    first: list[StratosError] = []
    try:
        yield first
    except Exception as error:
        if not first or error in first or error.__cause__ in first:
            raise
        warn(f"In cleaning up: {error}")
        raise first[0] from first[0].__cause__


def nearest(word: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return up to `n` known words that look like `word`, best first.

    A word that differs in case alone is the one that was meant.
    """
    by_letters: dict[str, str] = {}
    for name in known:
        by_letters.setdefault(name.casefold(), name)
    if word.casefold() in by_letters:
        return [by_letters[word.casefold()]]
    close = difflib.get_close_matches(word.casefold(), list(by_letters), n=n, cutoff=0.5)
    return [by_letters[name] for name in close]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean x?" or an empty string."""
    close = nearest(word, known)
    return f" Did you mean {' or '.join(close)}?" if close else ""
