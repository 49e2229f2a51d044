"""The forms of requests that are written without the wording of any row."""

from __future__ import annotations

import re
from functools import lru_cache

from stratos.contrib.tools.phrases import words_of

ORDERS = (
    "Please {phrase}",
    "I need to {phrase}",
    "Could you {phrase}",
    "{Phrase}",
    "I want to {phrase}",
    "Can you {phrase}",
    "Help me {phrase}",
    "I'd like to {phrase}",
    "I would like to {phrase}",
    "Could you please {phrase}",
    "Can you help me {phrase}",
    "I'm trying to {phrase}",
)
QUESTIONS = (
    "What is {phrase}",
    "What's {phrase}",
    "Tell me {phrase}",
    "Show me {phrase}",
    "Give me {phrase}",
    "I need {phrase}",
    "I'd like to know {phrase}",
    "Can you tell me {phrase}",
    "I'm looking for {phrase}",
)
"""For what a tool gives."""
STYLES = (
    (" with ", " ", " and "),
    (": ", " = ", " and "),
    (", ", ": ", " and "),
    (" using ", " ", " and "),
    (", where ", " is ", " and "),
    (" with a ", " of ", " and a "),
    (". The ", " is ", " and the "),
    (" with ", " ", ", "),
    (". ", ": ", ", "),
    (". My ", " is ", " and my "),
    (" where the ", " is ", " and the "),
)
"""What stands before the arguments, between the name of each and its value, and between two."""
BEFORE_ANY = (" for ", " of ")
BEFORE_FIRST = (
    *BEFORE_ANY,
    " in ",
    " at ",
    " about ",
    " from ",
    " to ",
    " by ",
    " on ",
    " near ",
)
"""What may stand before the first argument where it has no name."""
BETWEEN_NUMBERS = " and "
_SUGGESTED = (
    (("from", "origin", "departure", "source", "start", "pickup"), (" from ",)),
    (("to", "destination", "target", "end", "recipient", "receiver"), (" to ",)),
    (("city", "location", "place", "country", "state", "region"), (" in ", " near ")),
    (("date", "day"), (" on ", " for ")),
    (("time",), (" at ",)),
    (("year", "month"), (" in ", " for ")),
    (("unit", "units", "currency", "language", "format"), (" in ",)),
    (("author", "artist", "director", "by"), (" by ",)),
    (("name", "title", "id", "user", "player", "team"), (" for ", " called ")),
    (("query", "keyword", "keywords", "topic"), (" about ", " on ")),
    (("category", "type", "genre", "kind"), (" of type ",)),
    (("limit", "max", "maximum"), (" up to ",)),
    (("amount", "price", "budget", "cost"), (" for ", " of ")),
)
_COUNTED = frozenset((
    "years", "months", "weeks", "days", "hours", "minutes", "seconds", "nights", "people",
    "guests", "passengers", "tickets", "rooms", "adults", "children", "seats", "items", "results",
))  # fmt: skip
GREETINGS = ("Hi, ", "Hello! ", "Hey, ", "Hi there! ", "Good morning. ", "Hello, ", "Hey there, ")
ENDS = (".", "?", " please", ", please", " for me", " please.", " for me?", ". Thanks!", "!")
_END = re.compile(r"(?:,? please)?(?: for me)?[.?!]?(?: Thanks!)?$")


def headed(form: str, phrase: str) -> str:
    """Return the head of a request: what it wants, in a form."""
    return form.format(phrase=phrase, Phrase=phrase[:1].upper() + phrase[1:])


def without_manners(request: str) -> str:
    """Return a request without its greeting, and without what ends it."""
    greeting = next((one for one in GREETINGS if request.startswith(one)), "")
    return _END.sub("", request[len(greeting) :], count=1)


@lru_cache(maxsize=4096)
def ways_of(name: str) -> tuple[tuple[str, str], ...]:
    """Return what may stand before and behind the value of an argument, by its name."""
    words = words_of(name)
    parts = words.split()
    if parts and parts[-1] in _COUNTED:
        return ((" for ", f" {parts[-1]}"), (" with ", f" {parts[-1]}"))
    suggested = next((ways for marks, ways in _SUGGESTED if set(marks) & set(parts)), ())
    return *((way, "") for way in suggested), (f" with {words} ", "")


@lru_cache(maxsize=4096)
def marks_of(names: tuple[str, ...]) -> frozenset[str]:
    """Return what the arguments of these names begin with, behind another one's value."""
    signs = {sign for _, sign, _ in STYLES}
    named = {f" {words_of(name)}{sign}" for name in names for sign in signs}
    return frozenset(named | {before for name in names for before, _ in ways_of(name)})
