"""Stratos: distil a small language model for a narrow task, within a budget.

    from stratos import distil, load, look

    print(look("tickets.csv"))                           # what is in it, what a student reaches
    run = distil("tickets.csv", budget_usd=5, accuracy=0.9)
    run.student("My card was charged twice")             # an answer
    load(run.folder).probability("My card was charged twice")

Each name is imported when it is first used: `import stratos` alone loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratos.api import Run, distil
    from stratos.core.errors import StratosError
    from stratos.deploy.student import Served, Student, load
    from stratos.probe.look import look

__version__ = "0.1.0"
__all__ = ["Run", "Served", "StratosError", "Student", "distil", "load", "look"]

_MODULES = {
    "stratos.api": ("Run", "distil"),
    "stratos.core.errors": ("StratosError",),
    "stratos.deploy.student": ("Served", "Student", "load"),
    "stratos.probe.look": ("look",),
}
"""Module to the names that the package offers of it."""


def __getattr__(name: str) -> Any:
    """Import what the package offers when it is first asked for."""
    for module, names in _MODULES.items():
        if name in names:
            return globals().setdefault(name, getattr(import_module(module), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
