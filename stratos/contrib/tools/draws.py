"""How many draws of each tool came to a request, and why the others did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from stratos.contrib.tools.words import MOST_NAMED, NeverDrawn
from stratos.core.reasons import Reason

_LEAST_IN_VAIN = 5
"""Draws without a request, from which a tool is taken for one that has none."""


@dataclass
class Draws:
    """Counts draws by tool."""

    n_made: Counter[str] = field(default_factory=Counter)
    """Name of a tool to the requests that call it."""
    in_vain: Counter[tuple[str, Reason]] = field(default_factory=Counter)
    """Name of a tool, and why a draw of it made no request, to how many draws did not."""

    def miss(self, tools: Iterable[str], reason: Reason) -> None:
        """Count a draw that made no request for the tools of these names."""
        self.in_vain.update((name, reason) for name in tools)

    def by_tool(self) -> dict[str, int]:
        """Return how many draws made no request, by tool and reason, those of few as one."""
        named = self.in_vain.most_common(MOST_NAMED)
        counts = {f"{name}: {reason}": n for (name, reason), n in named}
        rest = self.in_vain.total() - sum(counts.values())
        return {**counts, "other tools": rest} if rest else counts

    def never(self) -> NeverDrawn | None:
        """Return for which tools nothing could be made, and why; None where there are none."""
        by_tool: dict[str, Counter[Reason]] = {}
        for (name, reason), n in self.in_vain.items():
            by_tool.setdefault(name, Counter())[reason] += n
        never = {
            name: reasons.most_common(1)[0][0]
            for name, reasons in by_tool.items()
            if not self.n_made[name] and reasons.total() >= _LEAST_IN_VAIN
        }
        return NeverDrawn(never, len(self.n_made.keys() | by_tool.keys())) if never else None
