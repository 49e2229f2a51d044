"""How many draws of each tool came to a request, and why the others did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from stratos.core.counted import counted

NOT_READ = "its request can be read in another way, or in none"
_LEAST_IN_VAIN = 5
"""Draws without a request, from which a tool is taken for one that has none."""
_MOST_NAMED = 20


@dataclass
class Draws:
    """Counts draws by tool."""

    n_made: Counter[str] = field(default_factory=Counter)
    """Name of a tool to the requests that call it."""
    in_vain: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Name of a tool, and why a draw of it made no request, to how many draws did not."""

    def miss(self, tools: Iterable[str], why: str) -> None:
        """Count a draw that made no request for the tools of these names."""
        self.in_vain.update((name, why) for name in tools)

    def by_tool(self) -> dict[str, int]:
        """Return how many draws made no request, by tool and reason, those of few as one."""
        named = self.in_vain.most_common(_MOST_NAMED)
        found = {f"{name}: {why}": n for (name, why), n in named}
        rest = self.in_vain.total() - sum(found.values())
        return {**found, "other tools": rest} if rest else found

    def never(self) -> str:
        """Say for which tools nothing could be made, and why; "" where there are none."""
        by_tool: dict[str, Counter[str]] = {}
        for (name, why), n in self.in_vain.items():
            by_tool.setdefault(name, Counter())[why] += n
        lost = {
            name: why.most_common(1)[0][0]
            for name, why in by_tool.items()
            if not self.n_made[name] and why.total() >= _LEAST_IN_VAIN
        }
        if not lost:
            return ""
        told = "; ".join(f"{name} ({why})" for name, why in [*lost.items()][:_MOST_NAMED])
        more = f"; and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        n_tools = len(self.n_made.keys() | by_tool.keys())
        are = "is" if len(lost) == 1 else "are"
        return (
            f"No request could be made for {len(lost)} of {counted(n_tools, 'tool')}, which {are} "
            f'not taught: {told}{more}. Give examples of such values in the schema ("examples": '
            "[…]), or training rows with such calls and task.drawn_from=rows."
        )
