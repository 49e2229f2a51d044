"""Stratified splits by content hash: which rows are of which split, in what order they are drawn.

Which split a question belongs to is told by a hash of what it says, its place between 0 and 1. That
stays when rows are added or moved, but of a label with ten rows it may leave none to test. So,
label by label, the rows nearest to a border move over it until each split has about its share. Of
many rows none moves; of few, adding some moves some.

Near duplicates are of one split. A large group of them would be much of the test, or of a label's
part of it, by the luck of its hash alone. So where a label has such groups, they are handed out the
largest first, and single questions fill up what each split lacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from math import ceil, floor
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stratos.tasks import doubts
from stratos.tasks.base import Split
from stratos.tasks.dedup.hashes import normalised, order_keys
from stratos.tasks.dedup.near import Groups, Near, answer_forms, is_even, is_much
from stratos.tasks.reader import Content
from stratos.tasks.table import Rows

TRAIN, VALIDATION, TEST = 0, 1, 2
ContentT_contra = TypeVar("ContentT_contra", bound=Content, contravariant=True)

MOST_LABELS = 200
"""Different answers above which they are no labels."""
_ROWS_PER_LABEL = 2
_LEAST, _MOST = 3 / 4, 4 / 3
"""Part of its share that a split has to have of a label, and may have."""
_FEW = 10
"""Rows of a label below which its training rows are counted exactly."""
_FEWEST_WORDINGS = 8
"""Wordings of a test below which it says next to nothing of other wordings."""


def stratified(
    families: NDArray[np.uint64],
    answers: NDArray[np.uint64],
    slices: NDArray[np.uint16],
    validation_share: float,
    test_share: float,
    groups: NDArray[np.uint64] | None = None,
) -> NDArray[np.uint8]:
    """Return the split of each row; rows of one family, or one group of them, are of one split.

    Args:
        families: hash of each question, without its spelling.
        answers: hash of each answer; where they are labels, each label is divided by itself.
        slices: number of each row's slice, which are divided by themselves, too.
        validation_share: share of the rows that go to validation.
        test_share: share that go to test; 0 where there is a file of test questions.
        groups: hash of the group of each question; None where each is by itself.
    """
    shares = validation_share, test_share
    if not len(families):
        return np.zeros(0, np.uint8)
    groups = families if groups is None else groups
    split_of = _by_hash(groups / 2.0**64, *shares)
    labelled = are_labels(answers)
    if not labelled and not slices.any() and _fits(split_of, *shares):
        return split_of
    # One row of each group stands for it, whatever their order in the file.
    keys, inverse, first = _representatives(groups, answers, slices)
    sizes = _n_families(families, groups)
    places, split = keys / 2.0**64, split_of[first]
    labelled = labelled and are_labels(answers[first])  # copies repeat any answer
    strata = answers[first] if labelled else np.zeros_like(answers[first])
    for stratum in _strata(strata, slices[first]):
        if sizes[stratum].max() > 1:
            split[stratum] = _handed_out(places[stratum], sizes[stratum], *shares)
        elif not _fits(split[stratum], *shares):
            counts = _wanted(len(stratum), *_counts(split[stratum]), *shares)
            nearest = stratum[np.argsort(places[stratum], kind="stable")]
            split[nearest] = TRAIN
            split[nearest[: counts[0]]] = TEST
            split[nearest[counts[0] : sum(counts)]] = VALIDATION
    return _each_with_one(split, places, has_test=test_share > 0)[inverse]


def _each_with_one(
    split: NDArray[np.uint8], places: NDArray[np.float64], *, has_test: bool
) -> NDArray[np.uint8]:
    """Return the splits where of a few groups one is to validate, and one to test.

    Each label or slice keeps its few for training, so that all together may leave a split empty.
    """
    split = split.copy()
    for lacking in [TEST] * has_test + [VALIDATION]:
        counts = np.bincount(split, minlength=3)
        largest = int(counts.argmax())
        if not counts[lacking] and counts[largest] > 1:
            own = np.flatnonzero(split == largest)
            split[own[places[own].argmin()]] = lacking
    return split


def _representatives(
    groups: NDArray[np.uint64], answers: NDArray[np.uint64], slices: NDArray[np.uint16]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the groups, sorted, the place of each row's, and a row with its most frequent answer.

    Of answers that are as frequent the least is taken.
    """
    order = np.lexsort((slices, answers, groups))
    of_order = groups[order], answers[order], slices[order]
    differs = np.any([np.diff(column) != 0 for column in of_order], axis=0)
    starts = np.concatenate([[0], np.flatnonzero(differs) + 1])
    counts = np.diff(np.concatenate([starts, [len(groups)]]))
    most_first = np.lexsort((-counts, groups[order][starts]))
    keys, first = np.unique(groups[order][starts][most_first], return_index=True)
    return keys, np.searchsorted(keys, groups), order[starts[most_first[first]]]


def _n_families(families: NDArray[np.uint64], groups: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return how many different questions each group has, in the order of their hashes."""
    _, first = np.unique(families, return_index=True)
    return np.unique(groups[first], return_counts=True)[1]


def _handed_out(
    places: NDArray[np.float64],
    sizes: NDArray[np.int64],
    validation_share: float,
    test_share: float,
) -> NDArray[np.uint8]:
    """Return the split of each group of one stratum, the largest handed out first.

    It goes where its hash puts it, as long as that split has room; else where it makes for the
    least excess over the split's share (the method of D'Hondt). Groups of one question come last,
    and make the sizes exact.

    Args:
        places: of each group, between 0 and 1.
        sizes: questions of each.
        validation_share: share of the questions that go to validation.
        test_share: share that go to test.
    """
    by_hash = _by_hash(places, validation_share, test_share)
    shares = {TRAIN: 1 - validation_share - test_share}
    shares |= {VALIDATION: validation_share} | ({TEST: test_share} if test_share else {})
    room = {split: share * int(sizes.sum()) for split, share in shares.items()}
    # What any stratum has to have, however few its groups: as of single questions (`_wanted`).
    n = len(places)
    lacking = {TRAIN} | ({TEST} if n >= 2 and test_share else set())
    lacking |= {VALIDATION} if n >= 4 else set()
    filled = dict.fromkeys(room, 0)
    split = np.empty(n, np.uint8)
    for n_before, k in enumerate(np.lexsort((places, -sizes)).tolist()):
        size, own = int(sizes[k]), int(by_hash[k])
        among = lacking if n - n_before <= len(lacking) else room.keys()
        if own not in among or filled[own] + size > room[own]:
            own = min(among, key=lambda some: ((filled[some] + size) / room[some], some))
        split[k] = own
        filled[own] += size
        lacking.discard(own)
    return split


def _by_hash(
    places: NDArray[np.float64], validation_share: float, test_share: float
) -> NDArray[np.uint8]:
    """Return the split of each place between 0 and 1."""
    split_of = np.where(places < test_share, TEST, TRAIN).astype(np.uint8)
    split_of[(places >= test_share) & (places < test_share + validation_share)] = VALIDATION
    return split_of


def are_labels(answers: NDArray[np.uint64]) -> bool:
    """Return whether answers repeat so often that each is divided by itself."""
    return len(np.unique(answers)) <= min(MOST_LABELS, len(answers) // _ROWS_PER_LABEL)


def _strata(answers: NDArray[np.uint64], slices: NDArray[np.uint16]) -> list[NDArray[np.int64]]:
    """Return the places of the rows that are divided together."""
    order = np.lexsort((answers, slices))
    differs = (np.diff(answers[order]) != 0) | (np.diff(slices[order]) != 0)
    return np.split(order, np.flatnonzero(differs) + 1)


def _fits(split: NDArray[np.uint8], validation_share: float, test_share: float) -> bool:
    """Return whether no row has to move."""
    counts = _counts(split)
    return _wanted(len(split), *counts, validation_share, test_share) == counts


def _counts(split: NDArray[np.uint8]) -> tuple[int, int]:
    return int((split == TEST).sum()), int((split == VALIDATION).sum())


def _wanted(
    n: int, n_test: int, n_validation: int, validation_share: float, test_share: float
) -> tuple[int, int]:
    """Return how many of `n` rows are to be tested and to validate, changed as little as can be."""
    least_test = max(floor(_LEAST * test_share * n), int(n >= 2 and test_share > 0))
    least_validation = max(floor(_LEAST * validation_share * n), int(n >= 4))
    train = (1 - validation_share - test_share) * n
    least_train = max(1, round(train) if n < _FEW else floor(_LEAST * train))
    n_test = min(max(n_test, least_test), max(least_test, ceil(_MOST * test_share * n)))
    n_validation = min(
        max(n_validation, least_validation),
        max(least_validation, ceil(_MOST * validation_share * n)),
    )
    n_validation = max(0, min(n_validation, n - least_train - least_test))
    return max(0, min(n_test, n - least_train - n_validation)), n_validation


_MOST_TRAIN_EDITED, _MOST_TEST_EDITED = 10_000, 1000
"""Rows that are compared character by character, in two seconds."""


@dataclass(frozen=True)
class Splits:
    """The rows of each split."""

    rows: Mapping[Split, Rows]
    excluded: Mapping[str, int]
    """How many rows are in none, by reason."""
    pool: Rows
    """All rows that were divided, and those of the test."""
    how: str = ""
    """How they were split: the end of a sentence, and what more there is to say."""
    together: Groups = field(default_factory=Groups)
    """Near duplicates that are of one split."""
    n_near_test: int = 0
    """Test rows that are near duplicates of training rows."""

    @cached_property
    def n_edited_test(self) -> int:
        """Test rows within a few characters of a training row: typos, or one changed number.

        Whatever their answers are; of the first 1,000 test rows and 10,000 training rows.
        """
        near = NearTexts(row.question for row in self.rows["train"][:_MOST_TRAIN_EDITED])
        return sum(near.has_near(row.question) for row in self.rows["test"][:_MOST_TEST_EDITED])

    @property
    def tests_other_wordings(self) -> bool:
        """Whether many rows are near duplicates and of one split: no test row is worded so."""
        n_near, n_test = self.n_near_test, len(self.rows["test"])
        return is_much(self.together, len(self.pool)) and 2 * n_near < n_test


class Splitter(Protocol[ContentT_contra]):
    """Divides the rows of files."""

    def split(self, content: ContentT_contra) -> Splits:
        """Return the rows of each split.

        Raises:
            ConfigError: they cannot be divided.
        """
        ...


@dataclass(frozen=True)
class HashSplitter:
    """Splits by a hash of the question, where near duplicates are of one split.

    Of rows that differ in case, punctuation or spacing alone and have one answer, one is
    measured: copies of a question are no further evidence.
    """

    validation_share: float
    test_share: float
    """Of the rows, where no others are the test split."""
    normal: Callable[[str], str]
    """Gives an answer in a form that all spellings share that the metric takes for equal."""

    def split(self, content: Content) -> Splits:
        """Return the splits of the first file; the rows of others are the test split."""
        own, *tested = content.files
        return self.divided(content, own.rows, Rows.concat([file.rows for file in tested]))

    def divided(self, content: Content, rows: Rows, tested: Rows) -> Splits:
        """Return the splits of rows, where others are tested whatever their hash.

        Near duplicates are apart where a split would have too few rows or labels, and rows of one
        wording also where the test would have too few wordings: what is measured then would be the
        luck of which these are, and readers would be chosen without them.
        """
        near = content.near or Near()
        labelled = are_labels(answer_forms(rows, self.normal))
        splits, together = self._divided(content, rows, tested, Groups(), Groups()), Groups()
        for groups in (near.worded, near.edited, near.alike):
            # Whoever wrote a file of test questions has answers there that nobody may learn by.
            grouped = self._divided(content, rows, tested, groups, near.alike)
            is_worded = groups is near.worded and not len(tested)
            if is_worded and _n_groups(content, groups, grouped) < _FEWEST_WORDINGS:
                continue
            if all(
                is_even(some, splits.rows[name], labelled) for name, some in grouped.rows.items()
            ):
                splits, together = grouped, groups
                break
        return replace(
            splits,
            how=f"split by their hash.{near.note(together, len(rows), of_rows=not len(tested))}",
            together=together,
            n_near_test=_n_near(content, near.edited, splits),
        )

    def _divided(
        self, content: Content, rows: Rows, tested: Rows, groups: Groups, known: Groups
    ) -> Splits:
        """Return the splits where all rows of a group are of one.

        Args:
            content: of the files.
            rows: to divide.
            tested: whatever their hash; what belongs to one of these by `known` is left out.
            groups: of which each is of one split.
            known: groups by which a row repeats a tested one.
        """
        families, of_tested = content.families(rows), content.families(tested)
        # A family may be more than a question: the turn of a conversation is of the whole.
        is_exact = np.isin(families, of_tested) | np.isin(rows.column("ids"), tested.column("ids"))
        is_known = is_exact | np.isin(known.of_families(families), known.of_families(of_tested))
        n_exact = int(is_exact.sum())
        free = np.flatnonzero(~is_known)
        split = stratified(
            families[free],
            answer_forms(rows, self.normal)[free],
            rows.column("slices")[free],
            self.validation_share,
            0.0 if len(tested) else self.test_share,
            groups.of_families(families)[free],
        )
        held_out: dict[Split, Rows] = {
            "validation": rows.take(free[split == VALIDATION]),
            "test": tested if len(tested) else rows.take(free[split == TEST]),
        }
        once = {name: without_copies(some, self.normal) for name, some in held_out.items()}
        excluded = {
            "training question of the test file": n_exact,
            doubts.NEAR: int(is_known.sum()) - n_exact,
            doubts.COPY: sum(len(held_out[name]) - len(once[name]) for name in held_out),
        }
        train = rows.take(free[split == TRAIN])
        return Splits({"train": train, **once}, excluded, Rows.concat([rows, tested]))


def _n_near(content: Content, groups: Groups, splits: Splits) -> int:
    """Return how many test rows belong together with a row that is learnt from."""
    keys = {name: groups.of_families(content.families(some)) for name, some in splits.rows.items()}
    return int(np.isin(keys["test"], keys["train"]).sum())


def _n_groups(content: Content, groups: Groups, splits: Splits) -> float:
    """Return how many groups test rows are of, as if all had one size (inverse Simpson index)."""
    keys = groups.of_families(content.families(splits.rows["test"]))
    sizes = np.unique(keys, return_counts=True)[1]
    return float(sizes.sum() ** 2 / max((sizes**2).sum(), 1))


def without_copies(rows: Rows, normal: Callable[[str], str]) -> Rows:
    """Return one row of each family and answer, whatever their order in the file."""
    families, of_answers = rows.column("families"), answer_forms(rows, normal)
    order = np.lexsort((rows.column("ids"), of_answers, families))
    is_copy = (np.diff(families[order]) == 0) & (np.diff(of_answers[order]) == 0)
    is_first = np.ones(len(rows), bool)
    is_first[order[1:][is_copy]] = False
    return rows.take(is_first)


def without_answered(rows: Rows, answered: Rows) -> Rows:
    """Return one row of each question, but of none that other rows answer."""
    families = rows.column("families")
    _, first = np.unique(families, return_index=True)
    is_first = np.zeros(len(families), bool)
    is_first[first] = True
    return rows.take(is_first & ~np.isin(families, answered.column("families")))


def order_of(rows: Rows, slice: str, seed: int) -> NDArray[np.int64]:
    """Return the places of a slice's rows among those of their split, shuffled by the seed."""
    places = np.flatnonzero(rows.of_slice(slice))
    keys = order_keys(rows.column("ids")[places].tolist(), seed)
    return places[np.argsort(keys, kind="stable")]


MOST_EDITS = 3
"""Characters that are replaced, added or left out."""
CHARACTERS_AN_EDIT = 10
"""Of a text, for each edit: shorter ones are near no other."""
_LONGEST = 1000
"""Characters of a text that is compared."""
_MOST_CANDIDATES = 40
"""Texts that one text is compared with: those of one template may all have a part in common."""


# A text of `n` characters cut into `d + 1` parts keeps one part whole under `d` edits, and no
# character moves by more than `d` places. So texts that have such a part at such a place are the
# candidates (Li, Deng, Wang, Feng: Pass-Join, VLDB 2011). Their distances are counted bit by bit
# (Myers, JACM 1999; Hyyrö 2001).
class NearTexts:
    """Tells whether a text is within a few characters of one of some texts.

    Args:
        texts: to compare with; case and spacing do not count.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = list(dict.fromkeys(filter(_is_compared, map(normalised, texts))))
        self._lengths = {len(text) for text in self._texts}
        self._with: dict[tuple[int, int, str], list[int]] = {}
        for number, text in enumerate(self._texts):
            for index, start, end in _parts(len(text)):
                self._with.setdefault((len(text), index, text[start:end]), []).append(number)

    def has_near(self, text: str) -> bool:
        """Return whether one is within `edits_of` characters; after many candidates, False."""
        text = normalised(text)
        if not _is_compared(text):
            return False
        for number in islice(self._candidates(text), _MOST_CANDIDATES):
            candidate = self._texts[number]
            most = min(edits_of(len(text)), edits_of(len(candidate)))
            differing = _differing(text, candidate)
            if _least_distance(*differing) <= most and _distance(*differing) <= most:
                return True
        return False

    def _candidates(self, text: str) -> Iterator[int]:
        """Yield the texts that share a part, those of a rare part first: a template's are many."""
        seen: set[int] = set()
        for numbers in sorted(self._sharing(text), key=len):
            for number in numbers:
                if number not in seen:
                    seen.add(number)
                    yield number

    def _sharing(self, text: str) -> Iterator[list[int]]:
        most = edits_of(len(text))
        for length in range(len(text) - most, len(text) + most + 1):
            if length not in self._lengths:
                continue
            for index, start, end in _parts(length):
                for at in range(max(0, start - most), min(start + most, len(text)) + 1):
                    part = text[at : at + end - start]
                    if numbers := self._with.get((length, index, part)):
                        yield numbers


def edits_of(n_characters: int) -> int:
    """Return by how many characters a text may differ."""
    return min(MOST_EDITS, n_characters // CHARACTERS_AN_EDIT)


def _is_compared(text: str) -> bool:
    return edits_of(len(text)) > 0 and len(text) <= _LONGEST


def _parts(length: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the parts that a text of some length is cut into."""
    n = edits_of(length) + 1
    for index in range(n):
        yield index, index * length // n, (index + 1) * length // n


def _positions(text: str) -> dict[str, int]:
    """Return each character to the bits of its places."""
    positions: dict[str, int] = {}
    for index, character in enumerate(text):
        positions[character] = positions.get(character, 0) | 1 << index
    return positions


def _differing(text: str, candidate: str) -> tuple[str, str]:
    """Return two texts without the beginning and the end that they share."""
    n = _n_shared(text, candidate)
    text, candidate = text[n:], candidate[n:]
    n = _n_shared(text[::-1], candidate[::-1])
    return text[: len(text) - n], candidate[: len(candidate) - n]


def _n_shared(text: str, candidate: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(text, candidate, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(text), len(candidate)))


def _least_distance(text: str, candidate: str) -> int:
    """Return a lower bound of the edit distance: characters that only one of them has."""
    counts, of_candidate = Counter(text), Counter(candidate)
    return max((counts - of_candidate).total(), (of_candidate - counts).total())


def _distance(text: str, candidate: str) -> int:
    """Return the edit distance of two texts.

    Bit `i` of `up` and `down` is whether the distance of the first `i + 1` characters of the text
    is by one more, or less, than that of the first `i`.
    """
    n = len(text)
    if not n:
        return len(candidate)
    positions = _positions(text)
    mask, last = (1 << n) - 1, 1 << (n - 1)
    up, down, distance = mask, 0, n
    for character in candidate:
        same = positions.get(character, 0)
        zero = ((((same & up) + up) ^ up) | same | down) & mask
        more, less = down | (~(zero | up) & mask), up & zero
        distance += bool(more & last) - bool(less & last)
        more = (more << 1 | 1) & mask
        less = less << 1 & mask
        up, down = less | (~(zero | more) & mask), more & zero
    return distance
