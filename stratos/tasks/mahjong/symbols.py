"""The symbols that hands and paths are written in: the vocabulary of a student's own tokenizer.

Equal tiles are one symbol (`333p`), so that a count is read and not reckoned, and every symbol of a
path names its suit, so that the value a step needs is found by its name alone.
"""

from __future__ import annotations

from functools import lru_cache

from stratos.tasks.base import Symbols
from stratos.tasks.mahjong.tiles import RANKS, SUITS


@lru_cache(maxsize=1)
def symbols() -> Symbols:
    """Return vocabulary, splitting pattern and rewrites of the Mahjong task."""
    tiles = [(suit, rank) for suit in SUITS for rank in range(1, RANKS[suit] + 1)]
    words = [str(rank) * n + suit for suit, rank in tiles for n in range(1, 5)]
    words += [f" {rank}{suit}{mark}{n}" for mark in ":=" for suit, rank in tiles for n in range(5)]
    words += [f" *{rank}{suit}" for suit, rank in tiles]
    words += [f" {suit}/{tiles}{total}" for suit in SUITS for tiles in "012" for total in "012"]
    words += [
        f" /{tiles}{total}{pairs}{orphans}"
        for tiles in "012"
        for total in "012"
        for pairs in "abx"
        for orphans in "abx"
    ]
    words += [
        f"{sign}{rank}{suit}"
        for sign in (" +", "-")
        for suit in SUITS
        for rank in range(RANKS[suit] + 1)
    ]
    words += [f">{starts}" for starts in range(3)]
    words += [" !", " ok", " 7:", " 13:", " =>", " "]
    return Symbols(
        vocabulary=tuple(words),
        pattern=(
            r" [1-9][mpsz][:=][0-4]| \*[1-9][mpsz]| [mpsz]/[0-2]{2}| /[0-2]{2}[abx]{2}"
            r"| \+[0-9][mpsz]|-[0-9][mpsz]|>[0-2]| !| ok| 13:| 7:| =>|"
            + "|".join(f"{rank}{{1,4}}[mpsz]" for rank in range(1, 10))
            + "| "
        ),
        rewrites=tuple(
            (f"{rank}(?=[{'123456789'.replace(str(rank), '')}][1-9]*{suit})", f"{rank}{suit}")
            for suit, rank in tiles
        ),
    )
