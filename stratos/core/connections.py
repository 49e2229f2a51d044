"""How long the connections of an HTTP client are used again."""

from __future__ import annotations

from typing import Any

MOST_IDLE_S = 2.0
"""Seconds after which a connection without a request is not used again. Servers close such ones
(uvicorn, and what is built on it, after 5, as long as the client's own default), and a request that
is sent at that moment fails."""


def limits() -> Any:
    """Return the connection limits of the OpenAI client, with `MOST_IDLE_S`."""
    import openai

    default = openai.DEFAULT_CONNECTION_LIMITS
    return type(default)(
        max_connections=default.max_connections,
        max_keepalive_connections=default.max_keepalive_connections,
        keepalive_expiry=MOST_IDLE_S,
    )
