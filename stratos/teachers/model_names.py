"""The shipped card of a model, by the name that a log has for it."""

from __future__ import annotations

import re

from stratos.teachers.lifetime import shipped_teachers
from stratos.teachers.openai_settings import OpenAISettings

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
