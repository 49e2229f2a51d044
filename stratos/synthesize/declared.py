"""Apply a declared complexity in place of what the probe would measure.

`complexity=low|medium|high` says which strategies are left, how many answers a question takes, how
long a reasoning path is and how small a student may be. The numbers are in `conf/complexity/`. They
replace those of the strategy, so that one word is enough; to change one of them, name it there, as
in `complexity=high complexity.n_samples=2`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from stratos.config import ComplexityConfig
from stratos.core.trust import find_class

if TYPE_CHECKING:
    from stratos.synthesize.strategy import Strategy
    from stratos.tasks.base import Task

CEILING = 2
"""An answer may be so many times as long as a reasoning path is expected to be."""


def with_declared(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as plain dicts whose strategies are as the declared complexity says.

    Nothing else changes, and nothing at all where the complexity is measured. Keys that a
    strategy's class does not have are not added.
    """
    complexity, node = plain.get("complexity"), plain.get("strategy")
    if not isinstance(complexity, Mapping) or not isinstance(node, Mapping):
        return dict(plain)
    values: dict[str, Any] = {}
    if (n_samples := complexity.get("n_samples")) is not None:
        values["n_samples"] = n_samples
    if (path_tokens := complexity.get("path_tokens")) is not None:
        values |= dict.fromkeys(("max_tokens", "max_new_tokens"), CEILING * path_tokens)
    several = node.get("candidates")
    if isinstance(several, Mapping):
        changed = {name: _replaced(strategy, values) for name, strategy in several.items()}
        return {**plain, "strategy": {**node, "candidates": changed}}
    return {**plain, "strategy": _replaced(node, values)}


def leaves(complexity: ComplexityConfig, strategy: Strategy) -> bool:
    """Return whether a declared complexity leaves a strategy; a family's name leaves all of it."""
    allowed = complexity.strategies
    return not allowed or strategy.kind in allowed or strategy.family.value in allowed


def contradictions(
    task: Task, strategies: Sequence[Strategy], complexity: ComplexityConfig
) -> Iterator[str]:
    """Yield why a declared complexity leaves nothing to choose from."""
    allowed = [strategy for strategy in strategies if leaves(complexity, strategy)]
    if strategies and not allowed:
        yield (
            f"complexity={complexity.level} leaves {_listed(complexity.strategies)}, but this run "
            f"has {_listed([strategy.name for strategy in strategies])}. Type strategy=auto, "
            "complexity=measured, or "
            f"complexity.strategies=[{','.join(strategy.kind for strategy in strategies)}]."
        )
        return
    possible = (
        allowed if task.has_rows else [strategy for strategy in allowed if not strategy.learns_rows]
    )
    only_injection = all(strategy.makes_questions for strategy in possible)
    if len(allowed) < len(strategies) and only_injection and not task.can_reverse:
        yield (
            f"complexity={complexity.level} leaves "
            f"{_listed([strategy.name for strategy in possible])}, but the task "
            f"{task.name} cannot build a question from an answer. Type complexity=medium, "
            "or complexity=measured."
        )


def _replaced(node: Any, values: Mapping[str, Any]) -> Any:
    """Return a strategy's node with those values that its class has a field for."""
    if not isinstance(node, Mapping):
        return node
    target = find_class(node.get("_target_"))
    known = set(node)
    if isinstance(target, type) and is_dataclass(target):
        known |= {field.name for field in fields(target)}
    return {**node, **{key: value for key, value in values.items() if key in known}}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
