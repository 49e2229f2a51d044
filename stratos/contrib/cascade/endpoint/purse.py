"""The money of a cascade's calls: each is set aside at its ceiling, which learns from answers.

Where an answer takes more than its ceiling, every later ceiling rises by as much, also after a
restart, and what is under way is set aside anew (as `teachers.call_budget` does it in a run).
"""

from __future__ import annotations

from itertools import count

from stratos.contrib.cascade.endpoint.meter import Meter
from stratos.contrib.cascade.endpoint.unavailable import UnavailableError, Why
from stratos.records import ModelCard
from stratos.teachers.base import TOO_LONG, Answer, Billed, Question
from stratos.teachers.call_budget import is_paid, most_usd, overrun_of, price


class Purse:
    """What the calls of one teacher are paid from.

    Args:
        card: prices.
        meter: keeps dollars, limits, and by how much answers passed their ceilings.
    """

    def __init__(self, card: ModelCard, meter: Meter) -> None:
        self._card, self._meter, self._is_paid = card, meter, is_paid(card)
        self._under_way: dict[int, tuple[Question, float]] = {}
        """Calls by receipt, with the dollars that are set aside for each."""
        self._receipts = count()
        self._has_answered = False

    @property
    def is_unproved(self) -> bool:
        """Whether a limit may be passed by what a first answer takes, so that calls go alone."""
        return self._is_paid and self._meter.is_limited and not self._has_answered

    def draw(self, question: Question) -> int:
        """Set aside what a try may cost at most; return its receipt.

        Raises:
            UnavailableError: a limit does not allow it, or it cannot be written down.
        """
        most = self._most(question)
        try:
            if most and not self._meter.take(most):
                raise UnavailableError(Why.OUT_OF_MONEY)
        except OSError:
            raise UnavailableError(Why.NOT_BOOKED) from None
        receipt = next(self._receipts)
        self._under_way[receipt] = (question, most)
        return receipt

    def pay(self, receipt: int, answer: Answer | None, billed: Billed) -> None:
        """Settle a try: at the price of its answer, or at its ceiling if it may be billed."""
        question, most = self._under_way.pop(receipt)
        usd = 0.0
        if answer is not None:
            usd = price(self._card, answer.input_tokens, answer.output_tokens)
            if answer.finish != TOO_LONG:
                self._has_answered = True
                self._learn(question, answer)
        elif billed is not Billed.NOTHING:
            usd = most
        if most:
            self._meter.pay(most, usd)

    def _learn(self, question: Question, answer: Answer) -> None:
        """Let ceilings rise if the answer passed its own; cover what is under way."""
        if not self._is_paid or not self._meter.learn(overrun_of(question, answer)):
            return
        for receipt, (other, most) in self._under_way.items():
            risen = self._most(other)
            self._under_way[receipt] = (other, risen)
            self._meter.cover(risen - most)

    def _most(self, question: Question) -> float:
        return most_usd(self._card, question.chat, question.max_tokens, self._meter.overrun)
