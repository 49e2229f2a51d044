"""What is wrong with an item or an answer of the Mahjong tasks."""

from __future__ import annotations

from enum import Enum

from stratos.core.reasons import Reason


class NoHand(Reason):
    """A question is no hand of tiles."""

    problem: str

    def __str__(self) -> str:
        return self.problem


class OtherTileCount(Reason):
    """A hand has more or fewer tiles than it should."""

    hand: str
    n_tiles: int
    """That it should have."""

    says = "{hand} has not {n_tiles} tiles"


class BreaksRules(Reason):
    """An answer is none by the rules."""

    says = "it breaks the rules"


class Fault(Enum):
    """What is wrong with a path, worded with what it says (`text`) and what is right (`right`)."""

    NO_ANSWER = "no answer"
    WAITS = "answers {text}, the waits are {right}"
    NO_ATTEMPT = "no attempt: {text!r}"
    OUT_OF_ORDER = "out of order: {text!r}"
    OTHER_WAITS = "the path finds {text}"
    COUNTS = "counts of {right} are not complete: {text!r}"
    COUNT = "wrong count {text}"
    STATE = "wrong state /{text} at {right}"
    RESIDUES = "wrong residues: {text!r}"
    RANK = "there is no such rank: {text!r}"
    RESIDUE = "the residue forbids {text!r}"
    NOT_FORBIDDEN = "nothing forbids {text!r}"
    PASSED_OVER = "a pair was passed over: {text!r}"
    MISSING_TILES = "{text!r} takes tiles that are not there"
    STEP = "wrong step {right!r} in {text!r}"
    MELD = "wrong meld {right!r} in {text!r}"
    COMES_OUT = "{text!r} comes out after all"
    NO_VERDICT = "no verdict in {text!r}"
    NEVER_OUT = "{text!r} does not come out"
    SHAPES = "other shapes: {text!r}, not {right!r}"
    NO_PATH = "no path: {text!r}"
    KINDS = "it does not try every kind of tile, each once and in order"
    OTHER_TILES = "{text!r} leaves other tiles"
    SUM = "{text!r} adds up to {right}"
    BEST = "answers {text}, the best are {right}"


class WrongPath(Reason):
    """A step of a path, or its answer, is wrong."""

    fault: Fault
    text: str = ""
    """What the path says there."""
    right: str = ""
    """What is right, or the place within the text."""

    def __str__(self) -> str:
        return self.fault.value.format(text=self.text, right=self.right)
