"""Data quality warnings: too few rows, imbalance, mixed languages.

What nothing can be learnt or measured from is refused; the rest is said before anything is asked.
Languages are told by letters and common words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import islice, pairwise, takewhile

from stratos.core.reasons import Reason
from stratos.tasks import words
from stratos.tasks.base import Split
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.files import is_same_file
from stratos.tasks.rows import ID_SHARE, FileRows, likely_answers
from stratos.tasks.table import Rows

_FEWEST = 2
"""Rows that each split has to have."""
FEWEST_LEARNT, _ENOUGH = 20, 100
"""Rows that are learnt below which nothing can be told, and those that a first student should
have."""
_FEW_VALIDATION, _FEW_TEST, _FEW_PER_LABEL = 20, 50, 5
"""Rows below which a warning says what they cannot tell."""
_MANY_NEAR = 1 / 3
"""Share of the test questions from which near duplicates among training questions count."""
_N_SAMPLE = 2000
"""Rows whose language is looked at."""
_SHARE_OF_LANGUAGE, _ROWS_OF_LANGUAGE = 0.05, 3
_ALIKE = 0.85
"""Likeness of two labels from which one may be a slip of the other."""
_SHORTEST = 4
"""Characters of a label below which one of them tells nothing."""
_RARE = 1 / 10
"""Part of the rows of a label that its slip may have."""
_ONE_AGAINST = 5
"""Rows of a label of which a single other row may be a slip."""
_FEWEST_IDS = 10
"""Rows from which answers that are all different may be ids."""
_NUMBER = re.compile(r"\d+")
_IS_ID = re.compile(r"[\w.:/#-]*\d[\w.:/#-]*")
_IS_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)

COPY = "copy of a held-out question"
"""Why a row is neither trained on nor measured: it differs from another in punctuation alone."""

NEAR = "near duplicate of a question of the test file"
"""Why a row of the training file is not used."""

REPEAT = "row that repeats another's question and answer"
"""Why a row is not used: another one says exactly the same."""

BySplit = Mapping[Split, Rows]


def of_copies(path: str, n: int) -> list[Reason]:
    """Return that held-out questions are copies of others, if any of them are."""
    return [words.HeldOutCopies(path, n)] if n else []


def of_near(n_near: int, n_test: int) -> list[Reason]:
    """Return that many test questions are near duplicates of training questions, if they are."""
    return [words.NearTest(n_near, n_test)] if n_near > _MANY_NEAR * n_test else []


def too_few(path: str, rows: BySplit) -> list[Reason]:
    """Return why nothing can be learnt or measured from the rows; nothing where it can."""
    sizes: dict[str, int] = {split: len(some) for split, some in rows.items()}
    return [] if min(sizes.values()) >= _FEWEST else [words.TooFewRows(path, sizes, _FEWEST)]


def too_few_for_labels(path: str, rows: BySplit, labels: Sequence[str]) -> list[Reason]:
    """Return why not every label can be learnt, where there are more of them than rows."""
    n_train = len(rows["train"])
    if n_train >= len(labels):
        return []
    n = sum(map(len, rows.values()))
    return [words.MoreLabelsThanRows(path, n, n_train, len(labels), _FEW_PER_LABEL)]


def of_sizes(rows: BySplit) -> list[Reason]:
    """Return how sharply so few rows measure, where they are few."""
    splits: tuple[tuple[Split, int], ...] = (("validation", _FEW_VALIDATION), ("test", _FEW_TEST))
    few: dict[str, int] = {split: n for split, least in splits if (n := len(rows[split])) < least}
    n_test = len(rows["test"])
    n_rows = sum(map(len, rows.values()))
    return too_few_to_tell(n_rows - n_test, n_rows) or ([words.WideIntervals(few)] if few else [])


def too_few_to_tell(n_learnable: int, n_labelled: int) -> list[Reason]:
    """Return that nothing can be told of a student of so few rows, if they are."""
    few = n_learnable < FEWEST_LEARNT
    return [words.TooFewToTell(n_labelled, _ENOUGH)] if few else []


def of_labels(by_split: Mapping[Split, Mapping[str, int]], labels: Sequence[str]) -> list[Reason]:
    """Return which labels have hardly a row to learn from, and which may be slips of others.

    Args:
        by_split: label to its rows in each split.
        labels: all that there are.
    """
    train = by_split["train"]
    held_out = {label: by_split["validation"][label] + by_split["test"][label] for label in labels}
    unlearnable = {label: n for label, n in held_out.items() if n and not train[label]}
    unused = tuple(label for label in labels if not train[label] and not held_out[label])
    rare = {label: n for label, n in train.items() if 0 < n < _FEW_PER_LABEL}
    n = {label: train[label] + held_out[label] for label in labels}
    typos = tuple(
        words.Typo(rare, n[rare], common, n[common])
        for rare in labels
        for common in labels
        if _is_rare(n[rare], n[common]) and are_alike(rare, common)
    )
    return [
        *([words.UnlearnableLabels(unlearnable)] if unlearnable else []),
        *([words.UnusedLabels(unused)] if unused else []),
        *([words.RareLabels(rare, _FEW_PER_LABEL)] if rare else []),
        *([words.LikelyTypos(typos)] if typos else []),
    ]


def of_unlabelled(file: FileRows, path: str) -> list[Reason]:
    """Return what of a file of rows without answers is not read.

    Args:
        file: what was read of it.
        path: of the file with the labelled rows.
    """
    reasons: list[Reason] = [file.problems()] if file.n_problems else []
    if file.n_passed and not is_same_file(file.path, path):
        reasons.append(words.AnswersNotRead(file.path, file.n_passed, path))
    return reasons


def of_spellings(path: str, spellings: Mapping[str, Mapping[str, int]]) -> list[Reason]:
    """Return which labels differ in case and spacing alone, and are read as one.

    Args:
        path: of the file.
        spellings: label to its spellings in the file, with their numbers of rows. The label is
            the spelling that is kept.
    """
    merged = {label: counts for label, counts in spellings.items() if len(counts) > 1}
    return [words.MergedSpellings(path, merged)] if merged else []


def of_ids(path: str, rows: Rows, question: str, answer: str) -> list[Reason]:
    """Return that the answers look like ids of the rows: nearly each another, in the file's order.

    Whether that is right, nobody can tell; so it is a doubt only where another field has values
    that repeat.

    Args:
        path: of the file.
        rows: its labelled rows.
        question: field with the question, as the task has it.
        answer: field with the answer.
    """
    if len(rows) < _FEWEST_IDS:
        return []
    some = list(islice(rows, _N_SAMPLE))
    if any(row.answer in row.question or not _IS_ID.fullmatch(row.answer) for row in some):
        return []
    keys = [_NUMBER.sub(lambda digits: digits[0].zfill(20), row.answer) for row in some]
    is_unique = len(set(keys)) >= ID_SHARE * len(keys)
    is_counted = is_unique and all(before <= after for before, after in pairwise(keys))
    if not is_counted and not all(_IS_UUID.fullmatch(row.answer) for row in some):
        return []
    likely = likely_answers(path, question, answer)
    return [words.AnswersLikeIds(path, answer, tuple(likely))] if likely else []


def of_languages(path: str, rows: Rows) -> list[Reason]:
    """Return that there are several languages."""
    texts = (row.question for row in islice(rows, _N_SAMPLE))
    n_rows = languages(texts, _SHARE_OF_LANGUAGE, _ROWS_OF_LANGUAGE)
    return [words.SeveralLanguages(path, n_rows, len(rows))] if len(n_rows) > 1 else []


def _is_rare(n: int, n_common: int) -> bool:
    return 0 < n <= _RARE * n_common or (n == 1 and n_common >= _ONE_AGAINST)


def are_alike(first: str, second: str) -> bool:
    """Return whether one label may be a slip of the other: one key, or little of a long label.

    Labels that differ in a number are meant to: "1 star" and "2 stars".
    """
    first, second = normalised(first), normalised(second)
    if _digits(first) != _digits(second):
        return False
    return _is_one_key(first, second) or SequenceMatcher(None, first, second).ratio() >= _ALIKE


def _is_one_key(first: str, second: str) -> bool:
    """Return whether one character behind the first is wrong, too many, lacking or changed places.

    A share of characters in common does not show it of short labels: two neighbours that changed
    places in a word of six leave 83%.
    """
    if min(len(first), len(second)) < _SHORTEST or first[0] != second[0]:
        return False
    start = _n_in_common(first, second)
    first, second = first[start:], second[start:]
    end = _n_in_common(first[::-1], second[::-1])
    first, second = first[: len(first) - end], second[: len(second) - end]
    is_swapped = len(first) == 2 and first == second[::-1]
    return is_swapped or max(len(first), len(second)) <= 1


def _n_in_common(first: str, second: str) -> int:
    """Return how many characters two texts begin with alike."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    )


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


_COMMON = {
    "English": "the and of to is that for with this you was are not have please my your it in a i",
    "German": "der die das und ist nicht ich mit ein eine den zu bitte wir auf von für im es sie",
    "French": "le la les et est je ne pas vous pour dans un une des du que avec nous mon sur",
    "Spanish": "el la los y es que no por con para una un las del mi se su muy por favor yo",
    "Italian": "il la che non per con una un sono di del mi ho è gli lo questo alla nel si",
    "Portuguese": "o a os que não para uma um do da em por favor eu meu minha é se mais",
    "Dutch": "de het een en is niet ik van dat voor met op te mijn we zijn naar aan er graag",
}
_COMMON_WORDS = {name: frozenset(common.split()) for name, common in _COMMON.items()}
_FEWEST_COMMON = 2
"""Different common words of a language that a text has to have before it counts."""
_LETTERS_ONLY = re.compile(r"[^\W\d_]+")
_MOST_READ = 2000
"""Characters of a text that are looked at."""


def language_of(text: str) -> str | None:
    """Return the language, or the script where that is not Latin; None where nothing tells."""
    text = text[:_MOST_READ]
    script = _script(text)
    if script != "LATIN":
        return script.title() if script else None
    words_of_text = set(_LETTERS_ONLY.findall(text.casefold()))
    hits = Counter({name: len(words_of_text & common) for name, common in _COMMON_WORDS.items()})
    (first, n_first), (_, n_second) = hits.most_common(2)
    return first if n_first >= _FEWEST_COMMON and n_first > n_second else None


def languages(texts: Iterable[str], least_share: float, least: int) -> dict[str, int]:
    """Return language to number of texts, the most frequent first; rare ones are left out.

    Args:
        texts: of which those that nothing tells of do not count.
        least_share: share of the texts that a language has to have.
        least: number of texts that it has to have.
    """
    counts = Counter(name for name in map(language_of, texts) if name is not None)
    enough = max(least, least_share * sum(counts.values()))
    return {name: n for name, n in counts.most_common() if n >= enough}


def _script(text: str) -> str:
    """Return the first word of the name of most letters, such as LATIN or CYRILLIC; "" for none."""
    letters = Counter(character for character in text if character.isalpha())
    scripts: Counter[str] = Counter()
    for letter, n in letters.items():
        scripts[unicodedata.name(letter, "").partition(" ")[0]] += n
    return scripts.most_common(1)[0][0] if scripts else ""
