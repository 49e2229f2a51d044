"""The ledger: an append-only record of spending, reserved at its ceiling before it is spent."""

from stratos.ledger.book import Ledger, Reservation
from stratos.ledger.file import LedgerError
from stratos.ledger.lines import Overrun, Shares

__all__ = ["Ledger", "LedgerError", "Overrun", "Reservation", "Shares"]
