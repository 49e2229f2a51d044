"""The reorder buffer: answers in question order, with bounded memory.

Questions are taken as the teacher has room for them. What the cache knows is not asked; equal
questions are asked once; one that another process is asking is waited for.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count

from stratos.core.reasons import Reason
from stratos.teachers.base import TOO_LONG, WINDOW, Answer, Question
from stratos.teachers.cache import AnswerCache, question_key

_POLL_SECONDS = 0.1
"""Between two looks for answers of other processes."""


class ReorderBuffer:
    """Between a stream of questions and a teacher that answers them in any order."""

    def __init__(
        self,
        questions: Iterable[Question],
        identities: Sequence[str],
        cache: AnswerCache,
        size: int = WINDOW,
        refuses: Callable[[Question], Reason | None] = lambda question: None,
    ) -> None:
        """Hold nothing yet.

        Args:
            questions: taken one by one.
            identities: of the teacher, at least one.
            cache: where answers are found and kept.
            size: questions held from the oldest without an answer to the newest taken.
            refuses: why a question cannot be asked, if it cannot; see `Bounded`.
        """
        self.n_known = 0
        """Questions taken so far whose answer is there."""
        self._source = iter(questions)
        self._identity, *self._others = cache.same(identities)
        self._cache = cache
        self._size, self._refuses = size, refuses
        self._order: deque[str] = deque()
        self._n_waiting: Counter[str] = Counter()
        self._ready: dict[str, Answer] = {}
        self._asked: dict[int, str] = {}
        self._numbers = count()
        self._foreign: dict[str, Question] = {}
        self._next_poll = 0.0
        self._ended = False

    @property
    def is_done(self) -> bool:
        """True if every question has been taken and its answer handed on."""
        return self._ended and not self._order

    def questions(self) -> Iterator[Question | None]:
        """Yield what has to be asked; None where there is nothing just now."""
        while True:
            self._cache.renew()
            if (question := self._freed()) is not None:
                yield question
                continue
            if self._ended:
                if not self._foreign:
                    return
                yield None
                continue
            if len(self._order) >= self._size:
                yield None
                continue
            question = next(self._source, None)
            if question is None:
                self._ended = True
            elif self._take(question):
                yield question

    def put(self, number: int, answer: Answer) -> None:
        """Take and keep the answer to the question that was yielded as `number`."""
        key = self._asked.pop(number)
        if answer.finish != TOO_LONG:  # the same model may be served with a longer context
            self._cache.put(key, answer)
        self._settle(key, answer)

    def answers(self) -> Iterator[Answer]:
        """Yield the answers that are there, in order, up to the first that is not."""
        while self._order and self._order[0] in self._ready:
            key = self._order.popleft()
            answer = self._ready[key]
            self._n_waiting[key] -= 1
            if self._n_waiting[key]:
                # An answer is paid for where it first occurs; an equal question is free.
                self._ready[key] = replace(answer, cached=True)
            else:
                del self._n_waiting[key], self._ready[key]
            yield answer

    def _take(self, question: Question) -> bool:
        """Add a question to the order; return whether it has to be asked."""
        key = question_key(self._identity, question)
        self._order.append(key)
        self._n_waiting[key] += 1
        if self._n_waiting[key] > 1:
            self.n_known += key in self._ready
            return False
        if self._found(key, question):
            return False
        if self._refuses(question) is not None:
            self._settle(key, Answer("", 0, 0, 0.0, finish=TOO_LONG))
            return False
        if not self._cache.claim(key):
            self._foreign[key] = question
            return False
        # Another process may have answered between the look and the claim.
        if self._found(key, question):
            return False
        self._asked[next(self._numbers)] = key
        return True

    def _freed(self) -> Question | None:
        """Return a question that another process gave up, if there is one."""
        if not self._foreign or time.monotonic() < self._next_poll:
            return None
        self._next_poll = time.monotonic() + _POLL_SECONDS
        for key, question in list(self._foreign.items()):
            if self._found(key, question):
                del self._foreign[key]
            elif self._cache.claim(key):
                del self._foreign[key]
                if not self._found(key, question):
                    self._asked[next(self._numbers)] = key
                    self._next_poll = 0.0
                    return question
        return None

    def _found(self, key: str, question: Question) -> bool:
        """Take the answer that is kept under any identity of the teacher, if there is one."""
        keys = [key, *(question_key(identity, question) for identity in self._others)]
        answer = next(iter(self._cache.get(keys).values()), None)
        if answer is None:
            return False
        self._settle(key, replace(answer, cached=True))
        return True

    def _settle(self, key: str, answer: Answer) -> None:
        self._ready[key] = answer
        self.n_known += self._n_waiting[key]
