"""What a made conversation is about: new values of variables, and the words that say them.

Values are drawn from enumerations, from the values of the other conversations, and from lists that
fit the names of the arguments. What an earlier part of the conversation has said stays the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stratos.contrib.tools.call_values import as_json, clock_of
from stratos.contrib.tools.calls import VALUES, texts_of_name
from stratos.contrib.tools.grounding import NUMBERS
from stratos.contrib.tools.trace_variables import Kind, Part, Span, Variable

_TRIES = 20
_LISTED, _SEEN = 0.4, 0.6
"""Shares of names from lists, and, up to the second, of other conversations; others are made up."""
_FILLED = 0.3
"""Share of the user's turns that begin with a filler, and that end with one."""
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_RUNS = re.compile(r"[^\W_]+|[\W_]+")


@dataclass
class Goal:
    """Values of the variables of one made conversation."""

    rng: random.Random
    seen: Mapping[str, Sequence[str]]
    """Name of an argument or field to the texts that all conversations have there."""
    values: dict[Variable, Any] = field(default_factory=dict)
    roles: dict[str, Any] = field(default_factory=dict)
    """What the last value is that had a role."""

    def bind(self, variable: Variable, part: Part) -> bool:
        """Give a variable its value in a part of a recorded conversation; False if none is known.

        What an earlier part says is known by what it was there: a place of a result, or an
        argument.
        """
        if variable.first < part.start:
            before = [role for index, role in variable.roles if index < part.start]
            of_results = [role for role in before if role.startswith("r:")]
            roles = of_results or before or [role for _, role in variable.roles]
            known = next((role for role in roles if role in self.roles), None)
            if known is None and of_results and not self._has_results(of_results):
                known = next((role for _, role in variable.roles if role in self.roles), None)
            if known is not None:
                value = self.roles[known]
                n_words = len(re.findall(r"[^\W_]+", str(value)))
                if variable.are_words_said and n_words != len(variable.words):
                    return False
                self.values[variable] = value
            elif variable not in self.values:
                return False
        else:
            self.values[variable] = self._drawn(variable, part.recorded.variables)
            for _, role in variable.roles:
                if not role.startswith("r:"):  # what it will be called with
                    self.roles[role] = self.values[variable]
        for index, role in variable.roles:
            if part.start <= index < part.end:
                self.roles[role] = self.values[variable]
        return True

    def _has_results(self, roles: Sequence[str]) -> bool:
        """Return whether a tool was called whose results have one of some roles."""
        tools = tuple(re.split(r"[.#\[]", role)[0] for role in roles)
        return any(role.startswith(tools) for role in self.roles)

    def _drawn(self, variable: Variable, variables: Sequence[Variable]) -> Any:
        for _ in range(_TRIES):
            value = self._value(variable, variables)
            used = {as_json(known) for v, known in self.values.items() if v in variables}
            if as_json(value) not in used:
                return value
        return variable.value

    def _value(self, variable: Variable, variables: Sequence[Variable]) -> Any:
        rng, value = self.rng, variable.value
        if variable.kind is Kind.DATE:
            year = int(value[:4])
            return f"{year:04d}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        if variable.kind is Kind.TIME:
            clock = clock_of(60 * rng.randint(8, 21) + rng.choice((0, 0, 15, 30, 45)))
            return clock if len(value) == 5 else clock.lstrip("0")
        if variable.kind is Kind.CHOICE:
            inner = variable.schema.get("items", {})
            return rng.choice(variable.schema.get("enum") or inner["enum"])
        if variable.kind is Kind.NUMBER:
            return self._number(variable)
        if not isinstance(value, str):
            digits = "".join(rng.choice("123456789") for _ in str(abs(int(value))))
            return type(value)(int(digits))
        return self._text(variable, variables)

    def _number(self, variable: Variable) -> Any:
        value, schema, rng = variable.value, variable.schema, self.rng
        if not isinstance(value, int):
            return round(value * rng.uniform(0.3, 3), len(str(value).partition(".")[2]))
        low = max(2, schema.get("minimum", 2))
        high = max(low, schema.get("maximum", 10 if value <= 10 else 3 * value))
        return rng.randint(low, high)

    def _text(self, variable: Variable, variables: Sequence[Variable]) -> str:
        """Return another name or id; words of other variables in it become theirs."""
        rng = self.rng
        linked = self._linked(variable, variables)
        fixed = self._fixed(variable)
        words = variable.words
        drawn = self._name(variable, len(words), is_free=not linked and not fixed)
        if isinstance(drawn, str):
            return drawn
        made, k = [], 0
        for run in _RUNS.findall(variable.value):
            if not run[0].isalnum():
                made.append(run)
                continue
            if k in linked:
                made.append(_cased(linked[k], run))
            elif any(map(str.isdigit, run)):
                made.append(_other_digits(run, rng))
            elif k in fixed or (variable.kind is Kind.ID and "@" not in variable.value):
                made.append(run)
            else:
                made.append(_cased(drawn[k], run))
            k += 1
        return "".join(made)

    def _linked(self, variable: Variable, variables: Sequence[Variable]) -> dict[int, str]:
        """Return the words that are those of a simpler variable, as they are in the goal."""
        linked: dict[int, str] = {}
        for second in variables:
            known = self.values.get(second)
            if second is variable or second.kind not in (Kind.NAME, Kind.ID):
                continue
            news = re.findall(r"[^\W_]+", str(known or ""))
            olds = [word.lower() for word in second.words]
            if len(news) != len(olds):
                continue
            for k, word in enumerate(variable.words):
                if k not in linked and len(word) > 2 and word.lower() in olds:
                    linked[k] = news[olds.index(word.lower())]
        return linked

    def _fixed(self, variable: Variable) -> set[int]:
        """Return the words that all values of its kind have at the same place."""
        seen = [re.findall(r"[^\W_]+", text) for text in self.seen.get(variable.name, ())]
        alike = [words for words in seen if len(words) == len(variable.words)]
        if len(alike) < 2:
            return set()
        return {k for k, word in enumerate(variable.words) if all(w[k] == word for w in alike)}

    def _name(self, variable: Variable, n: int, *, is_free: bool) -> str | list[str]:
        """Return a name that stands for all of a variable, or one word for each of its words."""
        rng, chance = self.rng, self.rng.random()
        if variable.kind is Kind.NAME and is_free and chance < _SEEN:
            listed = texts_of_name(variable.name) if chance < _LISTED else ()
            pool = [
                text
                for text in listed or self.seen.get(variable.name, ())
                if not any(map(str.isdigit, text))
                and (not variable.are_words_said or len(text.split()) == n)
            ]
            if pool:
                text = rng.choice(pool)
                return _cased(text, variable.value) if " " not in text else text
        return [rng.choice(VALUES["words"]) for _ in range(n)]


def _cased(word: str, like: str) -> str:
    if like.islower():
        return word.lower()
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:]


def _other_digits(run: str, rng: random.Random) -> str:
    """Return a run with other digits; what stands before them stays, letters between change."""
    made, is_behind = [], False
    for character in run:
        is_behind |= character.isdigit()
        if not is_behind:
            made.append(character)
        elif character.isdigit():
            made.append(rng.choice("0123456789" if made else "123456789"))
        else:
            made.append(rng.choice("abcdef" if character.islower() else "ABCDEF"))
    return "".join(made)


# --- words ---------------------------------------------------------------------------------------


def worded(text: str, spans: Sequence[Span], goal: Goal, role: str) -> str:
    """Return a text in which spans say the values of a goal; a user says them in other forms."""
    parts, end = list[str](), 0
    for span in spans:
        old = text[span.start : span.end]
        parts += [text[end : span.start], _said(span, old, goal, is_free=role == "user")]
        end = span.end
    return "".join([*parts, text[end:]])


def _said(span: Span, old: str, goal: Goal, *, is_free: bool) -> str:
    value, kind, rng = goal.values[span.variable], span.variable.kind, goal.rng
    if span.word >= 0:
        return _cased(re.findall(r"[^\W_]+", value)[span.word], old)
    if kind is Kind.DATE:
        return _date_said(value, old, rng, is_free=is_free)
    if kind is Kind.TIME:
        if old == span.variable.value:  # as somebody has offered it
            return str(value)
        return _time_said(value, old, rng, is_free=is_free)
    if kind is Kind.NUMBER:
        in_words = rng.random() < 0.5 if is_free else not old[-1:].isdigit()
        is_small = isinstance(value, int) and 1 < value < len(NUMBERS)
        return NUMBERS[value] if in_words and is_small else str(value)
    if kind is Kind.CHOICE:
        return str(value).replace("_", " ") if "_" not in old else str(value)
    text = str(value)
    return text.lower() if old.islower() and not str(span.variable.value).islower() else text


def _date_said(value: str, old: str, rng: random.Random, *, is_free: bool) -> str:
    if old[:4].isdigit():
        return value
    year, month, day = map(int, value.split("-"))
    end = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    name = _MONTHS[month - 1]
    forms = [f"{name} {day}{end}", f"the {day}{end} of {name}", f"{name} {day}",
             f"{name[:3]} {day}"]  # fmt: skip
    chosen = rng.choice(forms) if is_free else forms[1 if " of " in old else 0]
    return f"{chosen}, {year}" if re.search(r"\d{4}$", old) else chosen


def _time_said(value: str, old: str, rng: random.Random, *, is_free: bool) -> str:
    hour, minute = map(int, value.split(":"))
    short, half = (hour - 1) % 12 + 1, "pm" if hour >= 12 else "am"
    clock = f"{short}:{minute:02d}" if minute else f"{short}"
    if not is_free:
        return value if ":" in old and "m" not in old.lower() else f"{clock} {half}"
    forms = [f"{clock} {half}", f"{clock}{half}", f"{hour}:{minute:02d}"]
    day = "morning" if hour < 12 else "afternoon" if hour < 17 else "evening"
    if minute == 30:
        forms.append(f"half past {NUMBERS[short]} in the {day}")
    return rng.choice(forms)


def filled(text: str, rng: random.Random) -> str:
    """Return what a user says with a filler before or behind it, or none."""
    fillers = VALUES["fillers"]
    before = f"{rng.choice(fillers['before'])} " if rng.random() < _FILLED else ""
    behind = f" {rng.choice(fillers['behind'])}" if rng.random() < _FILLED else ""
    return f"{before}{text}{behind}"
