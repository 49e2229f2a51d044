"""Metrics: one class each, which parses an answer and compares it with the gold answer."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

from typing_extensions import override

from stratos.core.digest import digest_of
from stratos.core.errors import StratosError, did_you_mean
from stratos.core.extensions import extensions, load
from stratos.core.limited import CallError, OverLimitError, is_reached, limited
from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.core.trust import find_class
from stratos.core.values import OneOf, read_dataclass
from stratos.tasks import answers
from stratos.tasks.answers import as_key, object_at_start, object_of, same, written
from stratos.tasks.base import Item, Score
from stratos.tasks.chat import MARK
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.numbers import stated_number, write_number


class _OfDatabase(Mapping[str, str]):
    """The metrics that rooms of contrib add, with their verifiers, looked up when it is read."""

    def __getitem__(self, name: str) -> str:
        return next(room.metrics[name] for room in extensions() if name in room.metrics)

    def __iter__(self) -> Iterator[str]:
        return (name for room in extensions() for name in room.metrics)

    def __len__(self) -> int:
        return sum(len(room.metrics) for room in extensions())

    def __contains__(self, name: object) -> bool:
        return any(name in room.metrics for room in extensions())


OF_DATABASE: Mapping[str, str] = _OfDatabase()
"""Metrics that run answers on a database, each with the class of its verifier."""
_OWN = dict.fromkeys(("exact", "numeric", "multiple_choice", "regex", "f1"), "")
MetricName = Annotated[str, OneOf(ChainMap(OF_DATABASE, _OWN))]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PLAIN = re.compile(r"-?[1-9][0-9]{0,17}|0")
"""A whole number that is spelled as it should be already."""
_LONGEST_MATCHED = 2000
"""Characters of an answer that a user's pattern is matched against."""
_MATCH_S = 1.0
"""Seconds of CPU that a match may take: patterns with nested repeats may take years."""


@runtime_checkable
class Verifier(Protocol):
    """What a user's own dataclass offers: `compare`, and what of the protocols below it likes."""

    def compare(self, answer: str, gold: str) -> float:
        """Return how right an answer is: 1 is right, less is wrong."""
        ...


@runtime_checkable
class ReadsAnswers(Protocol):
    """A verifier that reads answers in its own way."""

    def read(self, text: str) -> answers.AnswerText | None:
        """Read the answer out of a model's text; None if there is none."""
        ...


@runtime_checkable
class ChecksGold(Protocol):
    """A verifier that can tell what is wrong with a gold answer."""

    def why_wrong(self, gold: str) -> Reason | None:
        """Return why a gold answer cannot be compared with; None if it can."""
        ...


@runtime_checkable
class DoubtsGold(Protocol):
    """A verifier that can tell what is doubtful about the gold answers of held-out rows."""

    def doubts(self, golds: Mapping[str, Sequence[str]]) -> Sequence[Reason]:
        """Return what is doubtful about gold answers, by split."""
        ...


@dataclass(frozen=True)
class Metric:
    """How answers are compared: equal but for case and spacing, unless a child knows better.

    JSON objects are equal whatever the order of their keys.
    """

    def canonical(self, answer: str, options: Sequence[str]) -> str:
        """Return a gold answer in canonical spelling.

        Raises:
            ValueError: it is none; the message says why.
        """
        return answer

    def read(self, text: str) -> answers.AnswerText | None:
        """Read the answer out of a model's text; None if there is none.

        The JSON object that the text ends with, what it announces, or its last line.
        """
        value = object_of(text) or object_at_start(answers.behind_marker(text))
        return answers.find_answer(text) if value is None else written(value)

    def compare(self, answer: str, gold: str) -> float:
        """Return how right an answer is: 1 is right. Objects are compared field by field."""
        first, second = object_of(answer), object_of(gold)
        if first is not None and second is not None:
            return float(same(first, second))
        return float(normalised(answer) == normalised(gold))

    def normal(self, answer: str) -> str:
        """Return a gold answer in a form that all of its spellings share that count as equal."""
        value = object_of(answer)
        return normalised(answer) if value is None else as_key(value)

    def overlap(self, answer: str, gold: str) -> float:
        """Return how much a wrong answer has in common with the gold answer: F1 over words."""
        return answers.word_f1(answer, gold)

    def score(self, text: str, item: Item) -> Score:
        """Score a model's text against the gold answer of an item."""
        answer = self.read(text)
        if answer is None:
            return Score(0.0, 0.0, False)
        right = self.compare(answer, item.answer) >= 1
        return Score(float(right), 1.0 if right else self.overlap(answer, item.answer), True)

    def options_of(self, question: str) -> tuple[str, ...]:
        """Return the answers that a question offers; none where any text may be one."""
        return ()

    def field_scores(self, answer: str | None, gold: str) -> Mapping[str, float]:
        """Return field to how right it is in an answer, None where none was read; none by default.

        Then fields of JSON objects are compared as `exact` does.
        """
        return {}

    @property
    def answer_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema that answers match; None, the default, where there is none."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user wants to know of it, a line each."""
        return ()

    @property
    def identity(self) -> str:
        """What changes when a file does that answers are compared by; "" without one."""
        return ""


@dataclass(frozen=True)
class Exact(Metric):
    """Equal but for case and spacing, also where the gold answer is all that stands there."""

    @override
    def score(self, text: str, item: Item) -> Score:
        score = super().score(text, item)
        if score.exact >= 1:
            return score
        # A gold answer may have several lines, or a word that announces one elsewhere.
        behind = text.partition(MARK)[2], text.rpartition(MARK)[2]
        wholes = (whole.strip() for whole in (text, *behind))
        right = any(self.compare(whole, item.answer) >= 1 for whole in wholes if whole)
        return Score(1.0, 1.0, True) if right else score


@dataclass(frozen=True)
class F1(Metric):
    """Right from a share of words in common on, as in SQuAD."""

    at_least: float = 0.8

    def compare(self, answer: str, gold: str) -> float:
        """Return 1 for enough words in common."""
        return float(answers.word_f1(answer, gold) >= self.at_least)


@dataclass(frozen=True)
class Numeric(Metric):
    """Equal as numbers, whatever their spelling."""

    def canonical(self, answer: str, options: Sequence[str]) -> str:
        """Return the number in canonical spelling."""
        if _PLAIN.fullmatch(answer):
            return answer
        number = stated_number(answer)
        if number is None:
            raise ValueError(f"the answer {shown(answer)} is not a number")
        return write_number(number)

    def read(self, text: str) -> answers.AnswerText | None:
        """Return the number behind the last marker, else the last number."""
        number = answers.find_number(text)
        return None if number is None else write_number(number)

    def compare(self, answer: str, gold: str) -> float:
        """Compare canonical spellings."""
        return float(answer == gold)

    def normal(self, answer: str) -> str:
        """Return it as it is: it is in canonical spelling."""
        return answer


@dataclass(frozen=True)
class Regex(Metric):
    """The gold answer is a pattern that the whole answer matches."""

    def canonical(self, answer: str, options: Sequence[str]) -> str:
        """Check that it is a pattern."""
        try:
            re.compile(answer)
        except re.error as error:
            raise ValueError(
                f"the answer {shown(answer)} is not a regular expression ({error})"
            ) from error
        return answer

    def read(self, text: str) -> answers.AnswerText | None:
        """Return what the text announces, else its last line."""
        return answers.find_answer(text)

    def compare(self, answer: str, gold: str) -> float:
        """Match the whole answer; a match that takes too long is none."""
        try:
            is_match = limited(_matches, gold, answer[:_LONGEST_MATCHED], seconds=_MATCH_S)
        except OverLimitError:
            return 0.0
        return float(is_match)

    def normal(self, answer: str) -> str:
        """Return it as it is: in a pattern, case and spacing tell something."""
        return answer


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


_OPTION = re.compile(r"^([A-Z])\) ", re.MULTILINE)
"""An option in a question, as the reader writes it."""


@dataclass(frozen=True)
class MultipleChoice(Metric):
    """The letter of the right option."""

    def canonical(self, answer: str, options: Sequence[str]) -> str:
        """Return the letter of an answer that is given as a letter or as an option's text."""
        for letter, option in zip(LETTERS, options, strict=False):
            if normalised(option) == normalised(answer):
                return letter
        letter = answer.strip("().: ").upper()
        if len(letter) == 1 and letter in LETTERS[: len(options)]:
            return letter
        raise ValueError(f"the answer {shown(answer)} is not one of its {len(options)} options")

    def read(self, text: str) -> answers.AnswerText | None:
        """Return the first letter that stands alone in what the text announces."""
        letter = answers.LETTER.search(answers.find_answer(text) or "")
        return letter[1] if letter else None

    @override
    def options_of(self, question: str) -> tuple[str, ...]:
        letters = _OPTION.findall(question)
        # The last list that begins with A: the question itself may have one, too.
        start = len(letters) - letters[::-1].index("A") - 1 if "A" in letters else len(letters)
        n = 0
        for letter in letters[start:]:
            n += letter == LETTERS[n]
        return tuple(LETTERS[:n])


@dataclass(frozen=True)
class Label(Exact):
    """One of a set of labels."""

    labels: tuple[str, ...] = ()

    @cached_property
    def _by_spelling(self) -> dict[str, str]:
        return {normalised(label): label for label in self.labels}

    def canonical(self, answer: str, options: Sequence[str]) -> str:
        """Return the label as the set spells it."""
        label = self._by_spelling.get(normalised(answer))
        if label is not None:
            return label
        raise ValueError(
            f"the label {shown(answer)} is not one of {', '.join(map(shown, self.labels))}."
            f"{did_you_mean(answer, self.labels)}".rstrip(".")
        )

    def read(self, text: str) -> answers.AnswerText | None:
        """Return the one label that the text announces; None if it names none, or several."""
        answer = answers.find_answer(text)
        if answer is None:
            return None
        by_spelling = self._by_spelling
        if normalised(answer) in by_spelling:
            return by_spelling[normalised(answer)]
        longest_first = sorted(by_spelling, key=len, reverse=True)
        pattern = rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)"
        named = set(re.findall(pattern, normalised(answer)))
        return by_spelling[named.pop()] if len(named) == 1 else None


@dataclass(frozen=True)
class Own(Metric):
    """A user's own verifier, whose calls have a limit: what a model writes may take any time.

    One of a database has limits of its own, and one of a notebook none, which its notes say.
    """

    verifier: Any = None
    called: str = ""
    """What errors call it; "" for the key and the name of its class."""
    database: str | None = None
    """File that answers are run on."""

    def canonical(self, answer: str, options: Sequence[str]) -> str:
        """Return it as it is, unless the verifier says what is wrong with it."""
        verifier = self.verifier
        if isinstance(verifier, ChecksGold):
            try:
                reason = self._ask(verifier.why_wrong, answer)
            except OverLimitError as error:
                raise ValueError(f"the answer {shown(answer)} cannot be checked: {error}") from None
            if reason:
                raise ValueError(str(reason))
        return answer

    def read(self, text: str) -> answers.AnswerText | None:
        """Let the verifier read, where it does."""
        verifier = self.verifier
        if not isinstance(verifier, ReadsAnswers):
            return answers.find_answer(text)
        try:
            answer = self._ask(verifier.read, text)
        except OverLimitError:
            return None
        if answer is not None and not isinstance(answer, str):
            raise StratosError(f"{self._name}.read gave {answer!r}: expected a text or None.")
        return answer

    def doubts(self, golds: Mapping[str, Sequence[str]]) -> Sequence[Reason]:
        """Return what the verifier finds doubtful about gold answers, by split."""
        return self.verifier.doubts(golds) if isinstance(self.verifier, DoubtsGold) else ()

    def compare(self, answer: str, gold: str) -> float:
        """Let the verifier compare; an answer that takes it too long is wrong."""
        try:
            points = self._ask(self.verifier.compare, answer, gold)
        except OverLimitError:
            return 0.0
        if not isinstance(points, bool | int | float):
            raise StratosError(f"{self._name}.compare gave {points!r}: expected a number.")
        return float(points)

    def normal(self, answer: str) -> str:
        """Return it as it is: what the verifier takes for equal is not known."""
        return answer

    @property
    @override
    def notes(self) -> tuple[str, ...]:
        if self.database is not None or is_reached(self.verifier):
            return ()
        return (
            f"{self._name} runs without limits of time and memory, as no other process can import "
            "it. For limits, put its class into a module (a .py file).",
        )

    @property
    @override
    def identity(self) -> str:
        return "" if self.database is None else digest_of(Path(self.database).expanduser())

    @property
    def _name(self) -> str:
        return self.called or f"task.verifier {type(self.verifier).__name__}"

    def _ask(self, method: Callable[..., Any], *arguments: str) -> Any:
        """Return what the verifier answers.

        Raises:
            OverLimitError: it takes too long, or too much memory.
            StratosError: it fails, whatever a user's own code makes of a text.
        """
        try:
            if self.database is not None:
                return method(*arguments)
            return limited(method, *arguments)
        except OverLimitError:
            raise
        except Exception as error:
            why = error if isinstance(error, CallError) else f"{type(error).__name__}: {error}"
            raise StratosError(f"{self._name}.{method.__name__} failed ({why}).") from error


def metric_of(
    name: str,
    min_f1: float,
    verifier: Mapping[str, Any] | None,
    database: str | None = None,
) -> Metric:
    """Return the metric of a task.

    Args:
        name: of the metric.
        min_f1: for f1.
        verifier: the user's own class, in its place.
        database: for a metric that runs answers on one.

    Raises:
        ValueError: the verifier cannot be made, or the database is none.
    """
    if name in OF_DATABASE:
        verifier_of_rows = load(OF_DATABASE[name])(database=database or "")
        return Own(verifier_of_rows, f"metric={name}", database)
    if verifier is None:
        known: dict[str, Metric] = {
            "exact": Exact(),
            "numeric": Numeric(),
            "multiple_choice": MultipleChoice(),
            "regex": Regex(),
            "f1": F1(min_f1),
        }
        return known[name]
    target = verifier.get("_target_")
    if not target:
        raise ValueError(f"verifier._target_={target}: give the dotted name of a class of yours.")
    verifier_class = find_class(target)
    if isinstance(verifier_class, Reason):
        raise ValueError(f"verifier._target_={target}: {verifier_class}")
    problems: list[str] = []
    values = {key: value for key, value in verifier.items() if key != "_target_"}
    made = read_dataclass(values, verifier_class, "verifier", problems)
    if problems:
        raise ValueError(" ".join(problems))
    if not isinstance(made, Verifier):
        raise ValueError(f"verifier._target_={target}: it lacks compare(answer, gold).")
    return Own(made)
