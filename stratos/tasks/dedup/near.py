"""Near duplicates, and parts of one another: of one split, where that leaves even splits.

Near duplicates have most word triples of what the user wrote in common, and the same numbers in it
(MinHash, Broder 1997; bands of four find candidates without comparing all pairs: Leskovec et al.,
Mining of Massive Datasets, chapter 3). Triples that many conversations of a sample share are
phrases of a prompt, and do not count; copies of one text with some words changed are one of them.
What is shorter than eight words is compared as a whole. Where answers are known, short texts with
one answer that differ in a word or two belong together, too (`stratos.tasks.dedup.copies`).

A question of a file without near duplicates keeps its own hash, so that the split of a file without
any stays as it is.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.core.formats import counted
from stratos.tasks.base import Item
from stratos.tasks.dedup import copies
from stratos.tasks.dedup.copies import Edits
from stratos.tasks.dedup.hashes import content_hash, family_hash, id_of, normalised, words_of
from stratos.tasks.table import Rows, Spool

_BYTES = 4 * copies.BAND
"""Of a band of a signature."""
_IN_MEMORY = 2**20
"""Bytes of a band of all signatures that stay in memory; those of more lie in a file."""
_MOST_HASHES = 100_000
"""Words whose hash is kept."""
_N_FOR_PHRASES = 2000
"""Texts that phrases are learnt from: those with the least hashes, whatever their order."""
_FEW_LINKED, _LINKED_SHARE, _MOST_LINKED = 20, 0.02, 200
"""Ways in which one beginning goes on before it is a phrase, such as "hi", which links nothing: a
share of all conversations, and the least and the most of it."""
_NO_SESSION = 0.9
"""Share of all conversations above which what they have as id of a session is none."""
_NUMBER = re.compile(r"\d+")
_NO_TRIPLES = np.zeros(0, np.uint64)
_ASCII_NUMBERS = bytes(k if chr(k).isdigit() else 32 for k in range(128)) + b" " * 128
"""To what `bytes.translate` makes each character, so that numbers alone are left."""
_MOST_SPELLINGS = 10_000
"""Different answers from which on their spellings are not compared."""


class _Hashes(dict[str, int]):
    """Hashes of words; those of the first ones are looked up from then on."""

    def __missing__(self, word: str) -> int:
        hashed = zlib.crc32(word.encode("utf-8", "replace"))
        if len(self) < _MOST_HASHES:
            self[word] = hashed
        return hashed


class Alike:
    """Takes texts in, and tells at the end which belong together."""

    def __init__(self) -> None:
        self._hash = _Hashes().__getitem__
        self._wholes = array("Q")
        self._unnumbered = array("Q")
        self._senses = array("Q")
        self._words = Spool(_IN_MEMORY)
        self._ends = array("Q")
        self._links: tuple[array[int], array[int], array[int]] = array("Q"), array("Q"), array("Q")
        self._sessions: tuple[array[int], array[int]] = array("Q"), array("Q")
        self._edits = Edits()

    def __len__(self) -> int:
        return len(self._wholes)

    def add(
        self,
        text: str,
        links: Sequence[int] = (),
        session: int | None = None,
        answer: int | None = None,
    ) -> int:
        """Take a text in; return its number.

        Args:
            text: what the user wrote.
            links: hashes of the beginnings of its conversation, the shortest first.
            session: hash of the id that all of its session have.
            answer: hash of its answer, where edits of short texts are looked for.
        """
        number = len(self)
        normal = normalised(text)
        whole = family_hash(normal)
        self._wholes.append(whole)
        for link, follower in zip(links, (*links[1:], whole), strict=False):
            self._links[0].append(link)
            self._links[1].append(follower)
            self._links[2].append(number)
        if session is not None:
            self._sessions[0].append(session)
            self._sessions[1].append(number)
        words, numbers = _words_and_numbers(normal)
        self._senses.append(zlib.crc32(numbers))
        self._unnumbered.append(family_hash(_NUMBER.sub("0", normal)) if numbers else whole)
        del words[copies.MOST_WORDS :]
        is_compared = len(words) >= copies.FEWEST_WORDS
        hashes = np.fromiter(map(self._hash, words), np.uint32)
        if answer is not None:
            self._edits.add(number, hashes, answer)
        hashes = hashes[: len(hashes) * is_compared]
        self._ends.append(self._words.append(hashes.tobytes()))
        return number

    def groups(self) -> NDArray[np.int64]:
        """Return the group of each text: the least number of those that belong to it."""
        n = len(self)
        if not n:
            return np.zeros(0, np.int64)
        pairs = [copies.neighbours(np.frombuffer(self._wholes, np.uint64)), self._near_pairs()]
        return copies.connected([*pairs, self._linked_pairs(), self._session_pairs()], n)

    def edited(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return groups joined where short texts with one answer differ in a word or two."""
        own: copies.Pairs = np.arange(len(groups)), groups
        return copies.connected([own, self._edits.pairs()], len(groups))

    def keys(self, groups: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
        """Return a hash of the group of each text, whatever the order of the texts."""
        if not len(self):
            return np.zeros(0, np.uint64)
        groups = self.groups() if groups is None else groups
        wholes = np.frombuffer(self._wholes, np.uint64)
        least = np.full(len(self), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(least, groups, wholes)
        return least[groups]

    def wholes(self) -> NDArray[np.uint64]:
        """Return the family hash of each text."""
        return np.array(self._wholes, np.uint64)

    def unnumbered(self) -> NDArray[np.uint64]:
        """Return a hash of each text that its numbers leave alone."""
        return np.array(self._unnumbered, np.uint64)

    @property
    def n_of_no_session(self) -> int:
        """How many have an id of a session that nearly all have, so that it tells nothing."""
        return int((~self._are_sessions()).sum())

    def _triples(self, number: int) -> NDArray[np.uint64]:
        """Return the word triples of a text, each once, sorted; none of a short one."""
        start = self._ends[number - 1] if number else 0
        words = np.frombuffer(self._words.read(start, self._ends[number]), np.uint32)
        return np.unique(copies.triples_of(words.astype(np.uint64))) if len(words) else _NO_TRIPLES

    def _signed(self) -> tuple[list[Spool], NDArray[np.int64]]:
        """Return the bands of the signatures, and which texts have one."""
        _, first = np.unique(np.frombuffer(self._wholes, np.uint64), return_index=True)
        signer = copies.Signer([self._triples(k) for k in first[:_N_FOR_PHRASES].tolist()])
        bands = [Spool(_IN_MEMORY) for _ in range(copies.N_HASHES // copies.BAND)]
        signed = array("Q")
        for number in range(len(self)):
            signature = signer.signature(self._triples(number))
            if signature is not None:
                signed.append(number)
                data = signature.tobytes()
                for k, band in enumerate(bands):
                    band.append(data[k * _BYTES : (k + 1) * _BYTES])
        return bands, np.array(signed, np.int64)

    def _near_pairs(self) -> copies.Pairs:
        bands, places = self._signed()
        if len(places) < 2:
            return _no_pairs()
        senses = np.frombuffer(self._senses, np.uint64)[places]
        wholes = np.frombuffer(self._wholes, np.uint64)[places]
        n = len(places)
        lefts, rights = [], []
        for band in bands:
            first, second = copies.neighbours(
                copies.mixed_with(_read(band, n).view(np.uint64), senses), wholes
            )
            # The other bands one after the other: all of them would be most of the memory.
            n_equal = np.zeros(len(first), np.uint8)
            for further_band in bands if len(first) else ():
                part = _read(further_band, n)
                for k in range(copies.BAND):
                    n_equal += part[first, k] == part[second, k]
            near = n_equal >= copies.NEAR * copies.N_HASHES
            lefts.append(places[first[near]])
            rights.append(places[second[near]])
        return np.concatenate(lefts), np.concatenate(rights)

    def _linked_pairs(self) -> copies.Pairs:
        """Return pairs with one beginning, but for beginnings that go on in many ways."""
        keys, followers, numbers = (np.array(link, np.uint64) for link in self._links)
        if not len(keys):
            return _no_pairs()
        rare = self._n_followers(keys, followers) <= self._most_followers
        first, second = copies.neighbours(keys[rare])
        own = numbers[rare].astype(np.int64)
        return own[first], own[second]

    @property
    def _most_followers(self) -> float:
        """In how many ways a beginning may go on that links conversations."""
        return min(_MOST_LINKED, max(_FEW_LINKED, _LINKED_SHARE * len(self)))

    @staticmethod
    def _n_followers(keys: NDArray[np.uint64], followers: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return of each key how many different followers it has."""
        order = np.lexsort((followers, keys))
        is_new = np.ones(len(keys), bool)
        is_new[1:] = (np.diff(keys[order]) != 0) | (np.diff(followers[order]) != 0)
        unique, n_followers = np.unique(keys[order][is_new], return_counts=True)
        counts: NDArray[np.int64] = n_followers[np.searchsorted(unique, keys)]
        return counts

    def _are_sessions(self) -> NDArray[np.bool_]:
        keys = np.array(self._sessions[0], np.uint64)
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return counts[inverse] <= max(2, _NO_SESSION * len(self))

    def _session_pairs(self) -> copies.Pairs:
        are = self._are_sessions()
        keys, numbers = (np.array(session, np.uint64)[are] for session in self._sessions)
        if not len(keys):
            return _no_pairs()
        # What many sessions begin with, such as "hi", is of none: it would make all of them one.
        wholes = np.frombuffer(self._wholes, np.uint64)[numbers.astype(np.int64)]
        rare = self._n_followers(wholes, keys) <= self._most_followers
        keys, numbers = keys[rare], numbers[rare]
        first, second = copies.neighbours(keys)
        own = numbers.astype(np.int64)
        return own[first], own[second]


def _read(band: Spool, n: int) -> NDArray[np.uint32]:
    """Return a band of all signatures: as many rows, with `BAND` hashes each."""
    return np.frombuffer(band.read_all(), np.uint32).reshape(n, copies.BAND)


def _words_and_numbers(normal: str) -> tuple[list[str], bytes]:
    """Return the words of a normalised text, and its numbers, sorted."""
    if not normal.isascii():
        return words_of(normal), " ".join(sorted(_NUMBER.findall(normal))).encode()
    # The same by tables, in a tenth of the time.
    numbers = normal.encode().translate(_ASCII_NUMBERS).split()
    return words_of(normal), b" ".join(sorted(numbers))


def _no_pairs() -> copies.Pairs:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


class NearDuplicates:
    """Remembers items by their MinHash, to tell which of them say nearly the same.

    Near duplicates have one answer, and the same numbers.

    Args:
        threshold: Jaccard index from which on two questions are near duplicates.
        sample: questions of the task, to tell its phrases.
        own_words: the part of a question that is compared (`Task.own_words`).
    """

    def __init__(
        self,
        threshold: float,
        sample: Iterable[Item] = (),
        own_words: Callable[[str], str] = str,
    ) -> None:
        """Draw the hash functions: the same in every run."""
        self._own_words = own_words
        self._threshold = threshold
        self._signer = copies.Signer([self._triples(item) for item in sample])
        self._bands: dict[tuple[int, bytes, bytes], list[int]] = {}
        self._signatures: list[NDArray[np.uint32]] = []

    def is_near(self, item: Item) -> bool:
        """Return whether an item that was kept says the same; if none does, keep this one."""
        signature = self._signer.signature(self._triples(item))
        if signature is None:
            return False
        sense = _sense(item)
        keys = [
            (band, sense, signature[band : band + copies.BAND].tobytes())
            for band in range(0, copies.N_HASHES, copies.BAND)
        ]
        candidates = {index for key in keys for index in self._bands.get(key, ())}
        if any(
            (self._signatures[index] == signature).mean() >= self._threshold for index in candidates
        ):
            return True
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._signatures))
        self._signatures.append(signature)
        return False

    def _triples(self, item: Item) -> NDArray[np.uint64]:
        """Return the word triples of a question, sorted; none of one with few words."""
        words = words_of(normalised(self._own_words(item.question)))
        return copies.triples_in(words if len(words) >= copies.FEWEST_WORDS else ())


def _sense(item: Item) -> bytes:
    """Return the hash of what two near duplicates must have in common: numbers and answer."""
    numbers = sorted(_NUMBER.findall(item.question))
    text = "\x1f".join([normalised(item.answer), *numbers])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


MOST_ROWS = 50_000
"""Rows of all files above which only exact duplicates are looked for."""
MOST_CHARACTERS = 50_000_000
"""The same of all characters of their questions."""
_LEAST = 1 / 2
"""Part of its rows that each split has to keep when near duplicates are put together."""
_LEAST_LABELS = 0.9
"""The same of the labels of a split."""
_MUCH = 0.2
"""Share of the rows that are near duplicates from which it matters that they are in one split."""


def _none() -> NDArray[np.uint64]:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Groups:
    """Which questions of a file belong together."""

    families: NDArray[np.uint64] = field(default_factory=_none)
    """Family hashes of questions that are not alone, sorted."""
    keys: NDArray[np.uint64] = field(default_factory=_none)
    """Of each of these the hash of its group."""
    n_rows: int = 0
    """Rows with such a question."""

    @staticmethod
    def of(of_rows: NDArray[np.uint64], keys: NDArray[np.uint64]) -> Groups:
        """Return the groups of rows by their family hashes and the hashes of their groups."""
        families, first = np.unique(of_rows, return_index=True)
        groups, inverse, sizes = np.unique(keys[first], return_inverse=True, return_counts=True)
        is_near = sizes[inverse] > 1
        near = families[is_near]
        # The key of a group is its least hash, which would put it into the test too often.
        own = [content_hash(id_of(int(key))) for key in groups[inverse][is_near]]
        return Groups(near, np.array(own, np.uint64), int(np.isin(of_rows, near).sum()))

    def of_families(self, families: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return family hashes with those that are not alone replaced by that of their group."""
        if not len(self.families):
            return families
        places = np.searchsorted(self.families, families).clip(max=len(self.families) - 1)
        return np.where(self.families[places] == families, self.keys[places], families)

    def sha256(self) -> str:
        """Return the digest of the groups; "" without any."""
        if not len(self.families):
            return ""
        return hashlib.sha256(self.families.tobytes() + self.keys.tobytes()).hexdigest()


@dataclass(frozen=True)
class Near:
    """Which questions have near duplicates."""

    alike: Groups = field(default_factory=Groups)
    """Questions with most word triples in common, whatever their answers."""
    edited: Groups = field(default_factory=Groups)
    """These, and short questions with one answer that differ in a word or two."""
    worded: Groups = field(default_factory=Groups)
    """These, and where answers are JSON objects questions that their values alone tell apart."""
    why_not: str = ""
    """Why they were not looked for; "" where they were."""

    @staticmethod
    def among(rows: Rows) -> Near:
        """Return the near duplicates among rows, whatever their order."""
        if len(rows) > MOST_ROWS:
            return Near(why_not=f"there are more than {MOST_ROWS:,} rows")
        alike, n_characters = Alike(), 0
        for row, answer in zip(rows, answer_forms(rows, normalised).tolist(), strict=True):
            n_characters += len(row.question)
            if n_characters > MOST_CHARACTERS:
                return Near(why_not=f"questions have more than {MOST_CHARACTERS:,} characters")
            alike.add(row.question, answer=answer)
        of_rows, groups = alike.wholes(), alike.groups()
        edited = alike.edited(groups)
        return Near(
            Groups.of(of_rows, alike.keys(groups)),
            Groups.of(of_rows, alike.keys(edited)),
            Groups.of(of_rows, alike.keys(_worded(rows, edited))),
        )

    def note(self, together: Groups, n_rows: int, *, of_rows: bool) -> str:
        """Say how many rows are near duplicates, and of which split; "" where there are none.

        Args:
            together: those that are of one split.
            n_rows: that were divided.
            of_rows: whether the test is a part of the rows, not a file of its own.
        """
        if self.why_not:
            return f" Only exact duplicates were looked for, no near ones: {self.why_not}."
        n, n_together = (counted(some.n_rows, "row", spec=",") for some in (self.edited, together))
        if together is self.worded and together.n_rows > self.edited.n_rows:
            why = ", so that the test asks in other wordings, as far as these can be told" * of_rows
            return f" Rows of one wording, or near duplicates, are in one split: {n_together}{why}."
        note = ""
        if together.n_rows:
            is_told = of_rows and is_much(together, n_rows)
            why = ", so the test has other wordings" * is_told
            note = f" Near duplicates, which are in one split: {n_together}{why}."
        if self.worded.n_rows > self.edited.n_rows:
            n = counted(self.worded.n_rows, "row", spec=",")
            so = ": the test asks in wordings that training rows show" * of_rows
            note += (
                f" Rows of one wording: {n}. They are in several splits, as together they would "
                f"leave a split with too few rows or wordings{so}."
            )
        elif together.n_rows < self.edited.n_rows:
            note += (
                f" Near duplicates: {n}, as of templates. They are in several splits: together, "
                "they would leave a split with too few rows or labels."
            )
        return note


def is_much(together: Groups, n_rows: int) -> bool:
    """Return whether so many rows are near duplicates that a test without them is another one."""
    return together.n_rows >= _MUCH * n_rows > 0


def _worded(rows: Rows, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return groups joined where questions are of one wording, if all answers are objects."""
    from stratos.tasks.answers import object_of
    from stratos.tasks.readings import Wordings

    answers: list[dict[str, Any]] = []
    for row in rows:
        answer = object_of(row.answer)
        if answer is None:
            return groups
        answers.append(answer)
    if not answers:
        return groups
    _, numbers = Wordings.among([row.question for row in rows], answers)
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    own = np.arange(len(groups))
    return copies.connected([(own, groups), (own, first[inverse])], len(groups))


def is_even(together: Rows, apart: Rows, labelled: bool) -> bool:
    """Return whether a split keeps enough rows, and labels, when near duplicates are together.

    Args:
        together: its rows then.
        apart: its rows when each question is by itself.
        labelled: whether answers are labels.
    """
    if len(together) < _LEAST * len(apart):
        return False
    n_labels = [len(np.unique(rows.column("answers"))) for rows in (together, apart)]
    return not labelled or n_labels[0] >= _LEAST_LABELS * n_labels[1]


def answer_forms(rows: Rows, normal: Callable[[str], str]) -> NDArray[np.uint64]:
    """Return a hash of each answer: the same for spellings that the metric takes for equal."""
    answers: NDArray[np.uint64] = rows.column("answers")
    distinct, first, inverse = np.unique(answers, return_index=True, return_inverse=True)
    if len(distinct) > _MOST_SPELLINGS:
        return answers
    by_form: dict[str, np.uint64] = {}
    forms = [
        by_form.setdefault(normal(rows[int(index)].answer), answer)
        for index, answer in zip(first, distinct, strict=True)
    ]
    return np.array(forms, np.uint64)[inverse]
