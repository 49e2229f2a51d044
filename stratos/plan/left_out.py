"""Candidates that the plan excludes, with the reason as a value."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core import reasons
from stratos.synthesize.choice import Reason


@dataclass(frozen=True)
class LeftOut:
    """A teacher, a student, a strategy or a pair of them that no plan may take."""

    subject: str
    """What it is, as tables name it."""
    reason: Reason
    why: reasons.Reason
    """The same with its amounts."""
    strategy: str = ""
    """Label of the strategy that it is about, "" for none."""
    teacher: str = ""
    """The teacher that it is about, "" for none."""

    @property
    def text(self) -> str:
        """Why, in words."""
        return str(self.why)


class Exclusions(dict[str, LeftOut]):
    """What is left out so far, by its subject; a later reason takes the place of an earlier one."""

    def add(
        self,
        subject: str,
        reason: Reason,
        why: reasons.Reason,
        *,
        strategy: str = "",
        teacher: str = "",
    ) -> None:
        """Leave something out."""
        self[subject] = LeftOut(subject, reason, why, strategy, teacher)
