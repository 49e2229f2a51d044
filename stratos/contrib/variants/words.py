"""Why a row of a file has no variant."""

from __future__ import annotations

from enum import Enum

from stratos.core.reasons import Reason


class NoVariant(Reason, Enum):
    """Why the numbers of a row cannot be exchanged."""

    HELD_OUT = "a held-out question with other numbers"
    UNVERIFIED = "it does not verify"
    NO_SUM = "no sum that is checked"
    COMPARED = "numbers that are compared"
    NO_NUMBER = "no number as its answer"
    ALL_FIXED = "no number that can be exchanged"
    UNUSED = "a number of the question is not used"
    CHAINED = "sums that are equal by their numbers alone"
    DIVISION = "a division by nothing"
    FROM_NOWHERE = "a number of the solution is from nowhere"
    TIME_OF_DAY = "a time of day"
    OTHER_FORM = "a number in another form"
    IN_A_NAME = "a number in a name"
    UNKNOWN = "an unknown of an equation"
