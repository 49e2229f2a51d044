"""Why a request has no answer of the teacher."""

from __future__ import annotations

from enum import Enum


class Why(Enum):
    """Why a request has no answer of the teacher, as a header says it."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate-limited"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    OUT_OF_MONEY = "out-of-money"
    NO_CREDIT = "no-credit"
    """The provider says that the account has none left."""
    NOT_BOOKED = "not-booked"
    """What a call may cost could not be written down, so it was not sent."""
    BUSY = "busy"


class UnavailableError(Exception):
    """The teacher gave no answer.

    Args:
        why: for the header.
        retry_after_s: when another request may get one.
    """

    def __init__(self, why: Why, retry_after_s: float | None = None) -> None:
        super().__init__(why.value)
        self.why, self.retry_after_s = why, retry_after_s
