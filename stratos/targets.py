"""Classes that a config names with `_target_`: config is code, so only trusted ones are made."""

from __future__ import annotations

import dataclasses
import importlib
import os
from typing import Any

ALLOW_TARGETS = "STRATOS_ALLOW_TARGETS"
"""Environment variable: further prefixes of `_target_`, separated by commas."""


def find_class(target: Any) -> type | str:
    """Return the dataclass of a `_target_`, or why it may not be used."""
    extra = os.environ.get(ALLOW_TARGETS, "").split(",")
    allowed = ["stratos.", *(prefix.strip() for prefix in extra if prefix.strip())]
    if not any(str(target).startswith(prefix) for prefix in allowed):
        return (
            f"only classes under {', '.join(allowed)} may be made from a config. If you trust "
            f"this one, set {ALLOW_TARGETS}={str(target).partition('.')[0]}."
        )
    module_name, _, name = str(target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        return f"cannot be imported ({error})."
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        return "is no dataclass."
    if not any(f"{found.__module__}.".startswith(prefix) for prefix in allowed):
        return f"is defined in {found.__module__}, which is not under {', '.join(allowed)}."
    return found
