"""Retirement dates of hosted teachers, and their replacements."""

from __future__ import annotations

import datetime
import re
from math import log

from stratos.teachers.openai_settings import OpenAISettings
from stratos.teachers.words import Retired

_CLASS = "stratos.teachers.openai.OpenAITeacher"
"""Which asks with these settings, as a YAML's `_target_` says."""


def retired(teacher: OpenAISettings, today: datetime.date | None = None) -> Retired | None:
    """Return why a teacher can be asked no more and what to type, or None.

    Args:
        teacher: by its card, and by what its endpoint said of it, if that was asked.
        today: None takes the date of this machine.
    """
    now = today or datetime.date.today()
    if not teacher.ends or datetime.date.fromisoformat(teacher.ends) > now:
        return None
    living = nearest_living(teacher, now)
    successor = "" if living is None else living.name
    return Retired(teacher.model, teacher.ends, teacher.retires_source, successor)


def nearest_living(teacher: OpenAISettings, today: datetime.date) -> OpenAISettings | None:
    """Return the shipped teacher that a user of this one would take next, None if none lives.

    That is one behind the same key, else any; of these the one whose price is most alike.
    """
    living = [
        shipped
        for shipped in shipped_teachers()
        if shipped.model != teacher.model
        and not (shipped.retires and datetime.date.fromisoformat(shipped.retires) <= today)
    ]

    def distance(candidate: OpenAISettings) -> tuple[bool, float, str]:
        ours, theirs = _price(teacher), _price(candidate)
        apart = abs(log(theirs / ours)) if ours and theirs else 0.0
        return candidate.api_key_env != teacher.api_key_env, apart, candidate.name

    return min(living, key=distance, default=None)


def shipped_teachers() -> list[OpenAISettings]:
    """Return the shipped hosted teachers that are complete as they are."""
    import yaml

    from stratos.core.extensions import shipped_choices
    from stratos.core.values import read_dataclass

    teachers = []
    for path in shipped_choices("teacher").values():
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        if node.pop("_target_", None) != _CLASS or "???" in node.values():
            continue
        node["name"] = node.get("name") or path.stem  # what is typed, not what is shown
        teacher = read_dataclass(node, OpenAISettings, path.stem, [])
        if teacher is not None:
            teachers.append(teacher)
    return teachers


def _price(teacher: OpenAISettings) -> float:
    """Return dollars of a million tokens in and a million out."""
    input_price, answered = (
        teacher.usd_per_million_input_tokens,
        teacher.usd_per_million_output_tokens,
    )
    return (input_price or 0.0) + (answered or 0.0)


# The shipped card of a model, by the name that a log has for it.

_SNAPSHOT = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
"""What a provider puts behind the name of a model for one version of it."""


def card_of(model: str) -> OpenAISettings | None:
    """Return the shipped card of a model as logs name it: with a provider, or a version's date."""
    bare = model.rpartition("/")[2].casefold()
    for name in (model.casefold(), bare, _SNAPSHOT.sub("", bare)):
        for card in shipped_teachers():
            if name in (card.model.casefold(), card.model.rpartition("/")[2].casefold()):
                return card
    return None
