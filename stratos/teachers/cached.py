"""Look questions up in the answer cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from stratos.teachers.base import Answer, Question, Teacher
from stratos.teachers.cache import FILE_NAME, AnswerCache, question_key
from stratos.teachers.kept_answers import read

_AT_A_TIME = 256


def look_up(
    teacher: Teacher, questions: Sequence[Question], cache_dir: Path
) -> tuple[list[tuple[Question, Answer]], list[Question]]:
    """Return the questions whose answer is kept, with it, and the others; equal ones once."""
    known: list[tuple[Question, Answer]] = []
    with closing(AnswerCache(cache_dir, lambda _: None, teacher.cache)) as cache:
        first, *others = cache.same(teacher.identities())
        unknown = {question_key(first, one): one for one in questions}
        for identity in (first, *others):
            by_key = {question_key(identity, one): key for key, one in unknown.items()}
            found = cache.get(by_key)
            known += [(unknown.pop(by_key[key]), answer) for key, answer in found.items()]
    return known, list(unknown.values())


def kept_answers_of(
    teacher: Teacher, questions: Sequence[Question], cache_dir: Path
) -> list[Answer] | None:
    """Return the kept answers to questions in their order; None where one of them is not kept."""
    known, unknown = look_up(teacher, questions, cache_dir)
    if unknown:
        return None
    by_key = {question_key("", question): answer for question, answer in known}
    return [by_key[question_key("", question)] for question in questions]


def restored(run_dir: Path, cache_dir: Path, warn: Callable[[str], None]) -> int:
    """Put the answers that lie in a run folder into the cache; return how many it did not have."""
    with closing(AnswerCache(cache_dir, warn)) as cache:
        return sum(cache.restore(rows) for rows in read(run_dir))


def n_kept(teacher: Teacher, questions: Iterable[Question], cache_dir: Path) -> int:
    """Return how many of the answers are kept, of questions in the order they are asked in.

    None among the first ends the search: others come behind those.
    """
    if teacher.cache == "off" or not (cache_dir / FILE_NAME).exists():
        return 0
    n, left = 0, iter(questions)
    while some := list(islice(left, _AT_A_TIME)):
        known, _ = look_up(teacher, some, cache_dir)
        n += len(known)
        if not n:
            break
    return n
