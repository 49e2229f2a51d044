"""The facts of a model that a teacher's YAML may state: the whole numbers of its model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from stratos.errors import did_you_mean
from stratos.records import ModelCard

FACTS = tuple(field.name for field in dataclasses.fields(ModelCard) if field.type == "int")


def check_facts(names: Iterable[str]) -> None:
    """Check that every name is a fact of a model card.

    Raises:
        ValueError: a name is not known.
    """
    for name in names:
        if name not in FACTS:
            raise ValueError(
                f"facts.{name}: there is no such fact.{did_you_mean(name, FACTS)} "
                f"Known: {', '.join(FACTS)}."
            )
