"""How a text of the user's is shown in a message."""

from __future__ import annotations

import json

from stratos.core.redact import redact_shapes

LONGEST_SHOWN = 60
"""Characters of a text that a message shows."""


def shown(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return a text as it may be shown: without keys, cut short, control characters escaped."""
    text, _ = redact_shapes(text)  # before it is cut, since a part of a key has no shape
    text = text if text.isprintable() else json.dumps(text)[1:-1]
    return text if len(text) <= longest else f"{text[: longest - 3]}…"
