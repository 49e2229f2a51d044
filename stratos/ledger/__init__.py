"""What was spent, and what may still be: an append-only file that no total may pass."""

from stratos.ledger.book import Ledger
from stratos.ledger.damage import LedgerError
from stratos.ledger.lines import Overrun, Shares
from stratos.ledger.reservation import Reservation

__all__ = ["Ledger", "LedgerError", "Overrun", "Reservation", "Shares"]
