"""Reservations of batch requests, which stay open when their process dies."""

from __future__ import annotations

from stratos.ledger.file import LedgerFile, now
from stratos.ledger.lines import HandedIn
from stratos.ledger.reservation import Reservation


class BatchMoney:
    """The part of a ledger that knows of batches.

    Args:
        file: of the ledger.
        mine: reservations of this process that are open.
    """

    def __init__(self, file: LedgerFile, mine: dict[str, Reservation]) -> None:
        self._file, self._mine = file, mine

    def hand_in(self, what: str, batch: str, parts: dict[str, int]) -> None:
        """Record which reservations pay for a batch: they stay open where this process dies.

        Args:
            what: what is paid for.
            batch: by which it is known.
            parts: reservation to the number of the batch's questions that it pays for, in order.
        """
        ids, counts = tuple(parts), tuple(parts.values())
        with self._file.exclusive() as append:
            append(HandedIn(what=what, batch=batch, ids=ids, counts=counts, at=now()))

    def open(self, what: str) -> list[HandedIn]:
        """Return the batches of earlier processes that are not settled.

        Args:
            what: what is paid for.
        """
        found = {
            one.batch: one for one in self._file.totals.of_batches().values() if one.what == what
        }
        return [one for one in found.values() if not any(id_ in self._mine for id_ in one.ids)]

    def n_under_way(self, what: str) -> int:
        """Return how many questions batches of earlier processes ask that are not settled."""
        return sum(sum(one.counts) for one in self.open(what))

    def adopt(self, id_: str) -> Reservation | None:
        """Take over an open reservation of another process; None if it is settled.

        Args:
            id_: of the reservation.
        """
        line = self._file.totals.open.get(id_)
        if line is None:
            return None
        self._mine[id_] = Reservation(line.what, line.reserved_usd, id=id_)
        return self._mine[id_]

    def leave(self, reservation: Reservation) -> None:
        """Leave a reservation that pays for a batch open, for whoever settles it."""
        self._mine.pop(reservation.id, None)
