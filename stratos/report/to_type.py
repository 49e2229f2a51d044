"""The commands that a run's page names: that repeat it, or take another plan."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from stratos.core.conf import shipped_choices
from stratos.core.redact import redact_override
from stratos.records import Plan, PlanPoint
from stratos.report import provenance


def repeat(run_dir: Path, changed: Mapping[str, str] | None = None) -> str:
    """Return the command of a run, with some settings changed.

    Args:
        run_dir: its folder, where Hydra kept the overrides.
        changed: key to value. What the run gave of that key, or of keys below it, is left out.

    Raises:
        ValueError: what Hydra kept is corrupt.
    """
    changed = changed or {}
    words = ["python", "-m", "stratos"]
    for folder in provenance.user_config_dirs(run_dir):
        words += ["--config-dir", folder]
    words += _without(provenance.overrides(run_dir), changed)
    words += [f"{key}={value}" for key, value in changed.items()]
    return shlex.join(redact_override(word) if "=" in word else word for word in words)


def _without(overrides: Sequence[str], keys: Mapping[str, str]) -> list[str]:
    """Return the overrides of all other keys."""
    kept = []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if not any(key == one or key.startswith((f"{one}.", f"{one}@")) for one in keys):
            kept.append(override)
    return kept


def of_point(point: PlanPoint, plan: Plan, run_dir: Path) -> str:
    """Return the command that has a point of the frontier carried out; "" if none can name it.

    Teacher, student and strategy are pinned, and the plan chooses servers for them. A model that
    was given by its path has no name to pin.

    Raises:
        ValueError: what Hydra kept is corrupt.
    """
    pinned = (
        ("teacher", point.teacher, plan.teacher),
        ("student", point.student, plan.student),
        ("strategy", point.strategy, plan.strategy),
    )
    if all(name == chosen for _, name, chosen in pinned):
        return repeat(run_dir)
    changed = {}
    for group, name, chosen in pinned:
        if name in shipped_choices(group):
            changed[group] = name
        elif name != chosen:
            return ""
    return repeat(run_dir, changed)
