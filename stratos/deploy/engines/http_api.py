"""What servers with the OpenAI API of ours share: how requests and events are read, and errors."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


GONE = 499
"""Status of a request whose client is gone, as nginx has it; no one sees it."""


async def gone(request: Request, error: Exception) -> Response:
    """Return what nobody reads, for a client that left while it was read."""
    from starlette.responses import Response

    return Response(status_code=GONE)


async def read_body(request: Request, most_bytes: int) -> bytes | None:
    """Return the body of a request; None where it is too long, and then it is read no further."""
    parts, n = [], 0
    async for part in request.stream():
        n += len(part)
        if n > most_bytes:
            return None
        parts.append(part)
    return b"".join(parts)


async def lines_of(parts: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """Yield the lines of a stream of events without their ends.

    A line feed alone ends one. Text in JSON may have other line separators as they are (U+2028,
    U+0085), at which `str.splitlines`, and so `httpx`, would cut an event in two.

    Args:
        parts: bytes as they arrive, cut anywhere.
    """
    rest = b""
    async for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def api_error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as the API has it."""
    from starlette.responses import JSONResponse

    error = {"message": message, "type": "invalid_request_error", "code": status}
    return JSONResponse({"error": error}, status, headers)
