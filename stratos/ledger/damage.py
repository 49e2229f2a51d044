"""Detect a ledger that is lost, truncated or edited.

Three things are held against each other: the running total in each line, the size that the file
had when it was last written (in `.ledger.json` beside it), and what the records of the stages say
that their answers cost.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.money import exact_usd
from stratos.ledger.lines import BadLine, Reserved, Settled, Stated, read

_PAYING = ("probe", "pilot", "synthesize")
"""Stages whose record says what its answers cost."""
_ROUNDING_USD = 1e-6


class LedgerError(StratosError):
    """What a run has spent can no longer be told."""


class _Cost(msgspec.Struct):
    usd: float = 0.0
    teachers: list[_Cost] = []


class _Envelope(msgspec.Struct):
    record: _Cost


class Mark(msgspec.Struct, frozen=True):
    """How far a ledger had been written."""

    n_bytes: int
    spent_usd: float

    def write(self, ledger: Path) -> None:
        """Put it beside the ledger."""
        write_atomically(_mark_of(ledger), msgspec.json.encode(self), flushed=False)

    @staticmethod
    def read(ledger: Path) -> Mark | None:
        """Return the mark beside a ledger, None where there is none that can be read."""
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(_mark_of(ledger).read_bytes(), type=Mark)
        return None


def _mark_of(ledger: Path) -> Path:
    return ledger.with_name(f".{ledger.stem}.json")


def recorded_usd(folder: Path) -> float:
    """Return what the records of a run folder say that was paid for their answers."""
    usd = 0.0
    for stage in _PAYING:
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            data = (folder / f"{stage}.json").read_bytes()
            record = msgspec.json.decode(data, type=_Envelope).record
            usd += record.usd + sum(one.usd for one in record.teachers)
    return usd


def lost(ledger: Path, n_bytes: int, spent_usd: float, is_stated: bool) -> str:
    """Return why a ledger that was read whole has lost lines; "" where none are missed.

    Args:
        ledger: the file; it need not be there.
        n_bytes: its size.
        spent_usd: what its lines add up to.
        is_stated: a user has said what was spent before, whatever the records say.
    """
    mark = Mark.read(ledger)
    if mark is not None and n_bytes < mark.n_bytes:
        has = f"has {n_bytes:,} bytes" if ledger.exists() else "is gone"
        return f"{ledger} {has}; {mark.n_bytes:,} were written"
    if mark is not None and spent_usd < mark.spent_usd - _ROUNDING_USD:
        return f"{ledger} adds up to {exact_usd(spent_usd)}; it was {exact_usd(mark.spent_usd)}"
    recorded = 0.0 if is_stated else recorded_usd(ledger.parent)
    if spent_usd < recorded * (1 - 1e-3) - _ROUNDING_USD:
        has = f"adds up to {exact_usd(spent_usd)}" if ledger.exists() else "is not there"
        return (
            f"{ledger} {has}, and the records beside it say that {exact_usd(recorded)} were paid "
            "for their answers"
        )
    return ""


def refusal(ledger: Path, why: str) -> LedgerError:
    """Return the error that says what to do about a damaged ledger.

    Args:
        ledger: the file.
        why: what is wrong with it.
    """
    mark = Mark.read(ledger)
    told = (_readable_usd(ledger), recorded_usd(ledger.parent), mark.spent_usd if mark else 0.0)
    least = max(told)
    return LedgerError(
        f"{why}. So it cannot be told what this run has spent, and nothing more is paid. Put the "
        f"file back as it was; or look up what was spent (at least {exact_usd(least)}, as far as "
        f"can be read here; the provider's usage page tells it) and type: stratos ledger "
        f"{ledger.parent} --spent-usd {least:.4f}"
    )


def _readable_usd(ledger: Path) -> float:
    """Return the dollars of all lines that can be read, calls that were never settled in full."""
    spent_usd, open_usd = 0.0, dict[str, float]()
    with suppress(OSError):
        for text in ledger.read_bytes().splitlines():
            with suppress(BadLine):
                line = read(text)
                if isinstance(line, Settled | Stated):
                    spent_usd += line.usd
                if isinstance(line, Settled):
                    open_usd.pop(line.id, None)
                elif isinstance(line, Reserved):
                    open_usd[line.id] = line.reserved_usd
    return spent_usd + sum(open_usd.values())


def set_aside(ledger: Path) -> Path | None:
    """Move a damaged ledger out of the way; return where it is now, None where there is none."""
    _mark_of(ledger).unlink(missing_ok=True)
    if not ledger.exists():
        return None
    n = 1
    while (aside := ledger.with_name(f"ledger.damaged-{n}.jsonl")).exists():
        n += 1
    return ledger.replace(aside)
