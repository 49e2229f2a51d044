"""The teacher's signal: one interface, many sources, and a cache."""

from stratos.distill.signal.fingerprint import Fingerprint, TokenizerMismatch, fingerprint
from stratos.distill.signal.source import SignalSource, TextSource, open_source
from stratos.distill.wanted import Wanted

__all__ = [
    "Fingerprint",
    "SignalSource",
    "TextSource",
    "TokenizerMismatch",
    "Wanted",
    "fingerprint",
    "open_source",
]
