"""Money for many calls in flight: taken from the ledger in lumps, drawn and paid call by call.

A million calls are then a hundred thousand lines of the ledger, and no call is sent whose ceiling
is not set aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from stratos.errors import BudgetError
from stratos.ledger import Ledger, Reservation
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, Question

_CALLS_PER_LUMP = 16
"""Calls for which money is taken at once; fewer where less is left. A killed process counts them
all, sent or not."""

_MESSAGE_TOKENS = 16
"""Most tokens that a chat template adds to a message."""


def price(card: ModelCard, input_tokens: float, output_tokens: float) -> float:
    """Return the dollars of tokens at the prices of a card."""
    usd_per_million = card.usd_per_million_input_tokens or 0.0
    output_usd_per_million = card.usd_per_million_output_tokens or 0.0
    return (input_tokens * usd_per_million + output_tokens * output_usd_per_million) / 1e6


def n_bytes(chat: Sequence[Message]) -> int:
    """Return the bytes of a chat's text."""
    return sum(len(message["content"].encode("utf-8", "replace")) for message in chat)


def most_usd(card: ModelCard, chat: Sequence[Message], max_tokens: int) -> float:
    """Return the most that a chat can cost: no tokenizer makes more tokens than there are bytes."""
    return price(card, n_bytes(chat) + len(chat) * _MESSAGE_TOKENS, max_tokens)


@dataclass
class _Lump:
    reservation: Reservation
    usd_left: float
    usd_paid: float = 0.0
    n_open: int = 0
    n_calls: int = 0
    n_answers: int = 0
    n_unanswered: int = 0
    """Tries that may be billed and brought nothing."""
    input_tokens: int = 0
    output_tokens: int = 0


class Purse:
    """What one teacher's calls are paid from.

    Args:
        ledger: where the money is taken.
        what: named in its lines.
        card: prices.
        limit_usd: a tighter cap than the budget.
    """

    def __init__(
        self, ledger: Ledger, what: str, card: ModelCard, limit_usd: float | None = None
    ) -> None:
        """Start empty."""
        self._ledger, self._what, self._card, self._limit_usd = ledger, what, card, limit_usd
        self._lump: _Lump | None = None
        self._drawn: dict[int, tuple[_Lump, float]] = {}
        self._receipts = count()

    def draw(self, question: Question) -> int:
        """Set aside what a try may cost at most; return its receipt.

        Raises:
            BudgetError: so much is not left.
        """
        usd = most_usd(self._card, question.chat, question.max_tokens)
        if self._lump is None or self._lump.usd_left < usd:
            self._retire()
            self._lump = self._take(usd)
        lump = self._lump
        lump.usd_left -= usd
        lump.n_open += 1
        receipt = next(self._receipts)
        self._drawn[receipt] = lump, usd
        return receipt

    def pay(self, receipt: int, answer: Answer | None, *, billed: bool) -> None:
        """Settle a try: at the price of its answer; else at its ceiling if it may be billed."""
        lump, most = self._drawn.pop(receipt)
        usd = 0.0
        if answer is not None:
            usd = price(self._card, answer.input_tokens, answer.output_tokens)
            lump.n_answers += 1
            lump.input_tokens += answer.input_tokens
            lump.output_tokens += answer.output_tokens
        elif billed:
            usd = most
            lump.n_unanswered += 1
        self._book(lump, usd)

    def close(self) -> None:
        """Settle everything; calls that were given up under way count at their ceiling."""
        while self._drawn:
            _, (lump, most) = self._drawn.popitem()
            self._book(lump, most)
        self._retire()

    def _book(self, lump: _Lump, usd: float) -> None:
        lump.n_open -= 1
        lump.n_calls += 1
        lump.usd_paid += usd
        lump.reservation.usd_so_far = lump.usd_paid
        if not lump.n_open and lump is not self._lump:
            self._settle(lump)

    def _take(self, usd: float) -> _Lump:
        for n_calls in (_CALLS_PER_LUMP, 8, 1):
            try:
                reservation = self._ledger.take(self._what, usd * n_calls, self._limit_usd)
            except BudgetError:
                if n_calls == 1:
                    raise
            else:
                return _Lump(reservation, usd * n_calls)
        raise AssertionError("unreachable")

    def _retire(self) -> None:
        """Draw no more from the present lump; it is settled when its last call is paid."""
        lump, self._lump = self._lump, None
        if lump is not None and not lump.n_open:
            self._settle(lump)

    def _settle(self, lump: _Lump) -> None:
        lump.reservation.settle(
            lump.usd_paid,
            calls=lump.n_calls,
            answers=lump.n_answers,
            unanswered=lump.n_unanswered,
            input_tokens=lump.input_tokens,
            output_tokens=lump.output_tokens,
        )
        self._ledger.close(lump.reservation)
