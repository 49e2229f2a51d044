"""The teacher's signal (logits, top-k, hidden states): one interface, many sources, a cache."""

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
