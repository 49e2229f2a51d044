"""Model facts that a teacher's YAML may state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from stratos.core.errors import did_you_mean
from stratos.records import ModelCard

FACTS = tuple(field.name for field in dataclasses.fields(ModelCard) if field.type == "int")


def check_facts(facts: Mapping[str, Any]) -> None:
    """Check that every name is a fact of a model card, and that none is negative.

    Raises:
        ValueError: a name is not known, or a number below 0.
    """
    for name, value in facts.items():
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"facts.{name}={value} must be at least 0, which stands for unknown.")
        if name not in FACTS:
            raise ValueError(
                f"facts.{name}: there is no such fact.{did_you_mean(name, FACTS)} "
                f"Known: {', '.join(FACTS)}."
            )
