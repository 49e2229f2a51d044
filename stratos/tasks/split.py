"""Splits by content: which of three a question belongs to is a hash of what it says."""

from __future__ import annotations

import hashlib
import unicodedata

from stratos.tasks.base import Split


def normalised(text: str) -> str:
    """Return a text as it is compared: compatible characters, case and spacing made one."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def content_id(text: str) -> str:
    """Return the hash of a text that spelling, case and spacing leave alone."""
    data = normalised(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def split_of(item_id: str, validation_share: float, test_share: float) -> Split:
    """Return the split of an item: the same in every run, whatever else the file holds.

    Args:
        item_id: from `content_id`.
        validation_share: share of all items that go to validation.
        test_share: share of all items that go to test.
    """
    place = int(item_id, 16) / 2 ** (4 * len(item_id))
    if place < test_share:
        return "test"
    return "validation" if place < test_share + validation_share else "train"


def order_key(item_id: str, seed: int) -> str:
    """Return what items are sorted by to be shuffled: another order for another seed."""
    return hashlib.blake2b(f"{seed} {item_id}".encode(), digest_size=8).hexdigest()


def family_id(text: str) -> str:
    """Return the hash of a text that punctuation and spacing leave alone, too.

    Questions that differ in nothing else are of one family, and so always of one split.
    """
    kept = "".join(c for c in normalised(text) if unicodedata.category(c)[0] not in "PZC")
    data = (kept or normalised(text)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()
