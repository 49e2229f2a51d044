"""Why an item is not learnt, and why a class is no strategy."""

from __future__ import annotations

from enum import Enum, StrEnum

from stratos.core.reasons import Reason
from stratos.core.redact import shown


class NotLearnt(Reason, StrEnum):
    """Why none of a teacher's answers to a question is learnt; a record counts under the value."""

    WRONG = "wrong"
    UNREAD = "longer than the teacher's context"
    CUT_OFF = "cut off"
    UNPARSABLE = "not parsable"
    OUTVOTED = "outvoted"


class NotWritten(Reason, Enum):
    """Why an item has no reasoning of the teacher; a record counts under the value."""

    NO_MONEY = "no reasoning written"
    UNREAD = NotLearnt.UNREAD.value
    MENTIONS_ANSWER = "the reasoning mentions that it was told the answer"
    NO_REASONING = "there is no reasoning"
    OTHER_ANSWER = "the reasoning ends in another answer"
    LEADS_ELSEWHERE = "the reasoning does not lead to the answer"

    def __str__(self) -> str:
        return f"{self.value}: budget used up" if self is NotWritten.NO_MONEY else self.value


class WrongReasoning(Reason):
    """A step of the teacher's reasoning is wrong, by the task."""

    reason: Reason

    def __str__(self) -> str:
        return f"a step is wrong: {shown(str(self.reason))}"


def counted_as(reason: Reason) -> str:
    """Return what a record counts an item under that has no reasoning of the teacher."""
    return reason.value if isinstance(reason, NotWritten) else "a step is wrong"


class NoStrategy(Reason, StrEnum):
    """Why a class is no strategy that a run can take."""

    OTHER_BASE = (
        "is not a Strategy. Let it inherit from stratos.synthesize.strategy.Strategy, and "
        "write draw."
    )
    LACKS_DRAW = "is not a Strategy: it lacks draw."
