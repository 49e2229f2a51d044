"""The teacher's signal: one interface, many sources, and a cache."""

from stratos.distill.signal.fingerprint import Fingerprint, TokenizerMismatch, fingerprint
from stratos.distill.signal.source import SignalSource, TextSource, open_source
from stratos.distill.signal_config import SignalConfig

__all__ = [
    "Fingerprint",
    "SignalConfig",
    "SignalSource",
    "TextSource",
    "TokenizerMismatch",
    "fingerprint",
    "open_source",
]
