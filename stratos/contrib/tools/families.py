"""Rows of calls that have to be of one split: of one request, session or history."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stratos.contrib.logs.messages.turn_rows import session_of
from stratos.contrib.tools.signatures import messages_in
from stratos.tasks.near_duplicates import Alike
from stratos.tasks.split import family_hash, id_of, normalised

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_BEGINNINGS = 50
"""Messages of the user up to which a history is compared with others."""
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True)
class Families:
    """Of each row of a file's requests the family, and the same of any other request."""

    keys: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each row, by its number."""
    requests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Hashes of all requests, sorted."""
    of_requests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of each of these its family."""
    n_of_no_session: int = 0
    """Rows with an id of a session that nearly all have."""

    @staticmethod
    def of(alike: Alike) -> Families:
        """Return the families of the requests that were taken in."""
        keys = alike.keys()
        requests, first = np.unique(alike.wholes(), return_index=True)
        return Families(keys, requests, keys[first], alike.n_of_no_session)

    def family(self, question: str) -> str:
        """Return the family of a question: of a request that no row has, one of its own."""
        own = np.uint64(family_hash(normalised(asked_in(messages_in(question)))))
        place = int(np.searchsorted(self.requests, own))
        is_known = place < len(self.requests) and self.requests[place] == own
        return id_of(int(self.of_requests[place] if is_known else own))


def take_in(alike: Alike, question: str, session: str) -> int:
    """Take the request of a question in; return its number.

    Args:
        alike: what takes it in.
        question: with the tools, as a model is asked.
        session: id of its session, "" without one.
    """
    messages = messages_in(question)
    return alike.add(asked_in(messages), _beginnings(messages), session_of(session))


def asked_in(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return what the user wrote, a line for each message."""
    return "\n".join(str(one["content"]) for one in messages if one["role"] == "user")


def _beginnings(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return hashes of what a history begins with, up to each message of the user."""
    digest = hashlib.blake2b(digest_size=8)
    found: list[int] = []
    for one in messages:
        if one["role"] in ("system", "developer"):
            continue
        digest.update(_encode(one))
        if one["role"] == "user":
            found.append(int.from_bytes(digest.digest(), "big"))
            if len(found) == _MOST_BEGINNINGS:
                break
    return found
