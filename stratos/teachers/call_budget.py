"""Budget reservation for concurrent calls: taken from the ledger in lumps, settled per call.

A million calls are then a hundred thousand lines of the ledger, and no call is sent whose ceiling
is not set aside. Where an answer passes its ceiling all the same, every later ceiling rises by as
much, and what is under way is covered anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from typing_extensions import override

from stratos.core.errors import BudgetError
from stratos.ledger import Ledger, Overrun, Reservation, Shares
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, Billed, Meter, Question
from stratos.teachers.reply import most_input_tokens

_CALLS_PER_LUMP = 16
"""Calls for which money is taken at once; fewer where less is left. A killed process counts them
all, sent or not."""
_TEMPLATE = 256
"""Tokens that an endpoint may put before a prompt without a word about it."""
_ENOUGH = 8
"""Answers that tell what one usually costs."""


def price(
    card: ModelCard, input_tokens: float, output_tokens: float, cached_input_tokens: float = 0
) -> float:
    """Return the dollars of tokens at the prices of a card.

    Args:
        card: prices.
        input_tokens: all of them.
        output_tokens: of the answers.
        cached_input_tokens: of the input tokens those that the endpoint had read before.
    """
    output_usd = (card.usd_per_million_output_tokens or 0.0) / 1e6 * output_tokens
    return card.input_usd(input_tokens, cached_input_tokens) + output_usd


def answer_usd(card: ModelCard, answer: Answer) -> float:
    """Return the dollars of an answer at the prices of a card."""
    return price(card, answer.input_tokens, answer.output_tokens, answer.cached_input_tokens)


def is_paid(card: ModelCard) -> bool:
    """Tell whether a model's tokens cost anything at the prices of its card."""
    return price(card, 1, 1) > 0


def n_bytes(chat: Sequence[Message]) -> int:
    """Return the bytes of a chat's text."""
    return sum(len(message["content"].encode("utf-8", "replace")) for message in chat)


def most_usd(
    card: ModelCard, chat: Sequence[Message], max_tokens: int, overrun: Overrun | None = None
) -> float:
    """Return the most that a chat can cost: no tokenizer makes more tokens than there are bytes.

    Args:
        card: prices.
        chat: the messages.
        max_tokens: longest answer.
        overrun: by how much other answers of this teacher passed that.
    """
    return _Call(most_input_tokens(Question(list(chat), max_tokens)), max_tokens).most_usd(
        card, overrun or Overrun()
    )


def overrun_of(question: Question, answer: Answer) -> Overrun:
    """Return by how much an answer passes the most that it could take."""
    return _Call(most_input_tokens(question), question.max_tokens).overrun(answer)


@dataclass(frozen=True, slots=True)
class _Call:
    """A try under way, as far as its ceiling depends on it."""

    most_input_tokens: int
    max_tokens: int

    def most_usd(self, card: ModelCard, overrun: Overrun) -> float:
        n_input = self.most_input_tokens + overrun.extra_input_tokens
        return price(card, n_input, self.max_tokens * overrun.output_factor)

    def overrun(self, answer: Answer) -> Overrun:
        """Return by how much an answer passes the ceiling."""
        return Overrun(
            max(0, answer.input_tokens - self.most_input_tokens),
            max(1.0, answer.output_tokens / max(1, self.max_tokens)),
        )


@dataclass(eq=False)
class _Lump:
    reservation: Reservation
    usd_held: float
    """Set aside for it in the ledger, extras included."""
    usd_left: float
    """Not drawn yet."""
    usd_paid: float = 0.0
    calls: dict[int, _Call] = field(default_factory=dict)
    """Those that are under way, by receipt."""
    extras: list[Reservation] = field(default_factory=list)
    """Set aside when ceilings rose."""
    batch: str = ""
    """That it pays for, if it pays for one: it is left open then where this process ends."""
    n_calls: int = 0
    n_answers: int = 0
    n_unanswered: int = 0
    """Tries that may be billed and brought nothing."""
    input_tokens: int = 0
    output_tokens: int = 0
    share_sum: float = 0.0
    """Of the ceiling that each answer took."""
    share_squares: float = 0.0


class CallBudget(Meter):
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
        self.complaints: list[str] = []
        """What the user should know of ceilings that were passed."""
        self._ledger, self._what, self._card, self._limit_usd = ledger, what, card, limit_usd
        self._lump: _Lump | None = None
        self._lumps: dict[int, _Lump] = {}
        """The lump of each call under way, by receipt."""
        self._undecided: dict[int, _Lump] = {}
        """The same of tries without an answer, until it is known what answers take."""
        self._live: dict[_Lump, None] = {}
        """The lumps that are not settled."""
        self._receipts = count()
        self._is_told = False

    @override
    def draw(self, question: Question) -> int:
        call = _Call(most_input_tokens(question), question.max_tokens)
        usd = call.most_usd(self._card, self._overrun)
        if self._lump is None or self._lump.usd_left < usd:
            self._retire()
            self._lump = self._take(usd)
        self._lump.usd_left -= usd
        return self._put(self._lump, question)

    def _put(self, lump: _Lump, question: Question) -> int:
        """Let a lump pay for a call; return its receipt."""
        receipt = next(self._receipts)
        lump.calls[receipt] = _Call(most_input_tokens(question), question.max_tokens)
        self._lumps[receipt] = lump
        return receipt

    @override
    def pay(self, receipt: int, answer: Answer | None, billed: Billed = Billed.NOTHING) -> None:
        lump = self._lumps.pop(receipt)
        call = lump.calls.pop(receipt)
        usd, rises = 0.0, False
        if answer is not None:
            usd = answer_usd(self._card, answer)
            rises = self._learn(call.overrun(answer))
        most = call.most_usd(self._card, self._overrun)
        if answer is not None:
            share = min(1.0, usd / most) if most else 0.0
            lump.n_answers += 1
            lump.input_tokens += answer.input_tokens
            lump.output_tokens += answer.output_tokens
            lump.share_sum += share
            lump.share_squares += share * share
        elif billed is not Billed.NOTHING:
            lump.n_unanswered += 1
            if billed is Billed.USUAL and self._n_answers < _ENOUGH:
                self._undecided[receipt] = lump
                lump.calls[receipt] = call
                return
            usd = most * (self._usual_share() if billed is Billed.USUAL else 1.0)
        self._book(lump, usd)
        if self._undecided and self._n_answers >= _ENOUGH:
            self._decide()
        if answer is not None and rises:
            self._cover(call, answer)

    @override
    def hand_in(self, batch: str) -> None:
        self._retire()
        lumps = [lump for lump in self._live if lump.calls and not lump.batch]
        for lump in lumps:
            lump.batch = batch
        parts = {lump.reservation.id: len(lump.calls) for lump in lumps}
        self._ledger.batches.hand_in(self._what, batch, parts)

    @override
    def batches(self) -> list[str]:
        return [line.batch for line in self._ledger.batches.open(self._what)]

    @override
    def adopt(self, batch: str, questions: Iterable[Question]) -> list[int | None]:
        (line,) = [
            opened for opened in self._ledger.batches.open(self._what) if opened.batch == batch
        ]
        receipts: list[int | None] = []
        remaining = iter(questions)
        for id_, n in zip(line.ids, line.counts, strict=True):
            reservation = self._ledger.batches.adopt(id_)
            if reservation is None:
                receipts += [None for _ in islice(remaining, n)]
                continue
            lump = _Lump(reservation, reservation.usd_reserved, 0.0, batch=batch)
            self._live[lump] = None
            receipts += [self._put(lump, question) for question in islice(remaining, n)]
        return receipts

    @override
    def lose(self, batch: str) -> None:
        for line in self._ledger.batches.open(self._what):
            if line.batch == batch:
                for id_ in line.ids:
                    if (reservation := self._ledger.batches.adopt(id_)) is not None:
                        self._ledger.close(reservation)

    def close(self) -> None:
        """Settle everything; calls that were given up under way count at their ceiling.

        What pays for a batch is left open: the batch goes on, and whoever finds it settles it.
        """
        for lump in [candidate for candidate in self._live if candidate.batch and candidate.calls]:
            for receipt in lump.calls:
                self._lumps.pop(receipt, None)
                self._undecided.pop(receipt, None)
            del self._live[lump]
            self._ledger.batches.leave(lump.reservation)
            for extra in lump.extras:
                extra.settle(0.0)
                self._ledger.close(extra)
        for receipt, lump in (*self._lumps.items(), *self._undecided.items()):
            most = lump.calls.pop(receipt).most_usd(self._card, self._overrun)
            self._book(lump, most)
        self._lumps.clear()
        self._undecided.clear()
        self._retire()

    @property
    def _overrun(self) -> Overrun:
        return self._ledger.overrun(self._what)

    def _learn(self, overrun: Overrun) -> bool:
        """Let later ceilings rise; return whether they do."""
        before = self._overrun
        if before | overrun == before:
            return False
        self._ledger.learn(self._what, overrun)
        return True

    @property
    def _shares(self) -> Shares:
        """Which shares of their ceilings answers took, of this run so far."""
        live = (Shares(lump.n_answers, lump.share_sum, lump.share_squares) for lump in self._live)
        return sum(live, self._ledger.shares(self._what))

    @property
    def _n_answers(self) -> int:
        return self._shares.n

    def _usual_share(self) -> float:
        """Return the share of its ceiling that a try without an answer is counted at.

        That of answers on average, and two standard deviations more, which are divided by the root
        of how many such tries there were: their sum is then four of its own deviations above what
        is expected of it.
        """
        shares = self._shares
        n_failed = self._ledger.tries(self._what)[1]
        n_failed += sum(lump.n_unanswered for lump in self._live)
        mean = shares.total / shares.n
        deviation = math.sqrt(max(0.0, shares.squares / shares.n - mean * mean))
        return min(1.0, mean + 2 * deviation / math.sqrt(max(1, n_failed)))

    def _decide(self) -> None:
        """Settle tries without an answer that came before it was known what answers take."""
        undecided, self._undecided = self._undecided, {}
        for receipt, lump in undecided.items():
            most = lump.calls.pop(receipt).most_usd(self._card, self._overrun)
            self._book(lump, most * self._usual_share())

    def _cover(self, call: _Call, answer: Answer) -> None:
        """Set more aside for what is under way, now that an answer passed its ceiling.

        Raises:
            OverspentError: the budget, or a tighter cap, does not have it.
        """
        over = self._overrun
        self._retire()
        for lump in list(self._live):
            ceilings = sum(call.most_usd(self._card, over) for call in lump.calls.values())
            if (short := lump.usd_paid + ceilings - lump.usd_held) > 0:
                try:
                    extra = self._ledger.take(self._what, short, self._limit_usd)
                except BudgetError:
                    extra = self._ledger.take(self._what, short, is_owed=True)
                lump.extras.append(extra)
                lump.usd_held += short
        why = self._said(call, answer)
        n_open = len(self._lumps)
        given_up = (
            f" What was under way ({n_open} at once) is given up, and counted at the most that it "
            "may cost."
            if n_open
            else ""
        )
        self._ledger.check_passed(f"{why}{given_up}", self._limit_usd)
        worth_a_word = answer.output_tokens > call.max_tokens or over.extra_input_tokens > _TEMPLATE
        if worth_a_word and not self._is_told:
            self._is_told = True
            self.complaints.append(f"{why} Later calls are set aside at as much more.")

    def _said(self, call: _Call, answer: Answer) -> str:
        who = self._what[:1].upper() + self._what[1:]
        if answer.output_tokens > call.max_tokens:
            return (
                f"{who} wrote {answer.output_tokens:,} tokens where {call.max_tokens:,} were the "
                "most: its endpoint does not keep the limit (see teacher.token_limit_field)."
            )
        return (
            f"{who} counts {answer.input_tokens:,} tokens in a prompt that can have "
            f"{call.most_input_tokens:,}: its endpoint puts a text of its own before it."
        )

    def _book(self, lump: _Lump, usd: float) -> None:
        lump.n_calls += 1
        lump.usd_paid += usd
        lump.reservation.usd_so_far = lump.usd_paid
        if not lump.calls and lump is not self._lump:
            self._settle(lump)

    def _take(self, usd: float) -> _Lump:
        for n_calls in (_CALLS_PER_LUMP, 8, 1):
            try:
                reservation = self._ledger.take(self._what, usd * n_calls, self._limit_usd)
            except BudgetError:
                if n_calls == 1:
                    raise
            else:
                lump = _Lump(reservation, usd * n_calls, usd * n_calls)
                self._live[lump] = None
                return lump
        raise AssertionError("unreachable")

    def _retire(self) -> None:
        """Draw no more from the present lump; it is settled when its last call is paid."""
        lump, self._lump = self._lump, None
        if lump is not None and not lump.calls:
            self._settle(lump)

    def _settle(self, lump: _Lump) -> None:
        del self._live[lump]
        over = self._overrun
        lump.reservation.settle(
            lump.usd_paid,
            calls=lump.n_calls,
            answers=lump.n_answers,
            unanswered=lump.n_unanswered,
            input_tokens=lump.input_tokens,
            output_tokens=lump.output_tokens,
            extra_input_tokens=over.extra_input_tokens,
            output_factor=over.output_factor,
            share_sum=lump.share_sum,
            share_squares=lump.share_squares,
        )
        self._ledger.close(lump.reservation)
        for extra in lump.extras:
            extra.settle(0.0)
            self._ledger.close(extra)
