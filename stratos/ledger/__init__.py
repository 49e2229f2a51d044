"""The ledger: an append-only record of spending with a hard budget."""

from stratos.ledger.book import Ledger
from stratos.ledger.damage import LedgerError
from stratos.ledger.lines import Overrun, Shares
from stratos.ledger.reservation import Reservation

__all__ = ["Ledger", "LedgerError", "Overrun", "Reservation", "Shares"]
