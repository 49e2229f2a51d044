"""Production logs as a task: train on what came before, test on what came after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from math import inf, isnan, nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from stratos.contrib.logs.answer_checks import AnswerChecks, checks_of, workload_in
from stratos.contrib.logs.chat_task import ChatContent, ChatReader, ConversationTask
from stratos.contrib.logs.conversation import CHARACTERS_A_TOKEN, as_question
from stratos.contrib.logs.teacher import AgainstLog, Log, LoggedModel, LoggedTeacher
from stratos.contrib.logs.words import AnswersNotUsed, Doubt, LaterRowsRepeat
from stratos.core.errors import ConfigError
from stratos.core.formats import counted
from stratos.core.reasons import Reason
from stratos.tasks import doubts
from stratos.tasks.answers import AnswerText
from stratos.tasks.base import Item, Message, Split
from stratos.tasks.dedup.hashes import content_hash, normalised, order_key
from stratos.tasks.dedup.splits import Splits, without_copies
from stratos.tasks.rows import Settled
from stratos.tasks.table import Row, Rows


def model_of(rows: Iterable[tuple[Doubt | None, Row]], is_checked: bool) -> LoggedModel:
    """Return what rows prove of the model that answered most of them.

    Args:
        rows: each with what is doubtful about its answer, None where nothing is.
        is_checked: whether a wrong answer could be found.
    """
    logged = [(why, row) for why, row in rows if row.provenance is not None]
    models = Counter(row.provenance.model for _, row in logged if row.provenance is not None)
    name = models.most_common(1)[0][0] if models else ""
    own = [(why, row) for why, row in logged if row.provenance and row.provenance.model == name]
    tokens = [_tokens(row) for _, row in own]
    return LoggedModel(
        name,
        len(own),
        Counter(doubt for doubt, _ in own if doubt),
        is_checked,
        tuple(n_input for n_input, _, _ in tokens),
        tuple(n_output for _, n_output, _ in tokens),
        all(is_counted for _, _, is_counted in tokens),
    )


def time_of(row: Row) -> float:
    """Return when a row was logged, in seconds since 1970; NaN where nobody says."""
    return nan if row.provenance is None else row.provenance.time_s


class AnswersByQuestion:
    """Finds the answer of a question among rows."""

    def __init__(self, rows: Rows) -> None:
        """Sort the rows by the hash of their question."""
        self._rows = rows
        ids = rows.column("ids")
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def answer(self, question: str) -> AnswerText | None:
        """Return the answer to a question, up to case and spacing; None where there is none."""
        key = content_hash(normalised(question))
        index = int(np.searchsorted(self._sorted, np.uint64(key)))
        if index == len(self._sorted) or int(self._sorted[index]) != key:
            return None
        return self._rows[int(self._order[index])].answer


def _tokens(row: Row) -> tuple[float, float, bool]:
    """Return tokens in and out of a logged answer, and whether the log says them.

    Else they are told by the length of the texts.
    """
    logged = row.provenance
    if logged is not None and logged.input_tokens is not None and logged.output_tokens is not None:
        return logged.input_tokens, logged.output_tokens, True
    return len(row.question) / CHARACTERS_A_TOKEN, len(row.answer) / CHARACTERS_A_TOKEN, False


_MAJORITY = 2 / 3
"""Share of the answers to one request from which the commonest one holds."""
_MOST_UNTIMED = 0.5
_UNTIMED = "row without a time"
_REPEATED = "near duplicate of an earlier row, or of its session"
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_MANY_REPEATED = 0.5


@dataclass(frozen=True)
class LogContent(ChatContent):
    """What was read of a log."""

    doubtful: tuple[tuple[Doubt, Row], ...] = ()
    """Rows whose logged answer is not used, each with the reason."""
    checks: Mapping[str, AnswerChecks] = field(default_factory=dict)
    """What the answers of each workload are like; nothing where they are trusted."""


@dataclass(frozen=True)
class LogReader:
    """Reads logged requests, and finds answers that are doubtful."""

    chats: ChatReader
    trusts: bool
    """Whether no answer is doubted, unless others to the same request contradict it."""
    against_schema: Callable[[str, Sequence[str]], Doubt | None]

    def read(self) -> LogContent:
        """Return the rows whose answers hold, and the others with the reasons.

        Raises:
            ConfigError: the files cannot be used, or no answer holds.
        """
        contradicted: list[Row] = []
        content = self.chats.settled(partial(self._vote, contradicted))
        [own] = content.files
        untimed = np.isnan(own.rows.column("times"))
        if untimed.mean() > _MOST_UNTIMED:
            raise ConfigError(
                f"{own.path}: {int(untimed.sum()):,} of {len(own.rows):,} rows have no time, by "
                "which logs are split. Type +task=chat, which splits by a hash."
            )
        doubtful = [(Doubt.CONTRADICTED, row) for row in contradicted]
        checks = {} if self.trusts else checks_of(own.rows)
        if not self.trusts:
            doubts_of_rows = [
                checks[workload_in(row)].doubt(row.question, row.answer)
                or self.against_schema(row.answer, row.options)
                for row in own.rows
            ]
            doubtful += [(why, own.rows[k]) for k, why in enumerate(doubts_of_rows) if why]
            holds = np.array([why is None for why in doubts_of_rows])
            own = replace(own, rows=own.rows.take(holds))
        if not own.rows:
            raise ConfigError(f"{own.path}: no logged answer holds. See task.answers=trust.")
        read = {**vars(content), "files": (own,)}
        return LogContent(**read, doubtful=tuple(doubtful), checks=checks)

    def _vote(self, contradicted: list[Row], rows: Sequence[Row]) -> Settled:
        """Take the last row with the answer that most of those to one request have.

        With answers that are trusted it is the last of the commonest ones, however few.

        Args:
            contradicted: rows with other answers are added to it.
            rows: of one request.
        """
        counts = Counter(_form(row.answer) for row in rows)
        [(commonest, n)] = counts.most_common(1)
        holds = self.trusts or n >= _MAJORITY * len(rows)
        of_commonest = [k for k, row in enumerate(rows) if _form(row.answer) == commonest]
        contradicted += [row for k, row in enumerate(rows) if not holds or k not in of_commonest]
        return Settled(of_commonest[-1], len(of_commonest) - 1) if holds else Settled(None)


def _form(answer: str) -> str:
    return " ".join(answer.casefold().split())


@dataclass(frozen=True)
class TimeSplitter:
    """Trains on what came before, and tests on what came after.

    What repeats an earlier row, nearly, or is of its session, is in no later split: it would be
    known by heart.
    """

    validation_share: float
    test_share: float
    normal: Callable[[str], str]
    """Gives an answer in a form that all spellings share that the metric takes for equal."""

    def split(self, content: LogContent) -> Splits:
        """Return the rows of each split."""
        [own] = content.files
        times = own.rows.column("times")
        timed = np.flatnonzero(~np.isnan(times))
        ids = own.rows.column("ids")
        order = timed[np.lexsort((ids[timed], times[timed]))]
        n = len(order)
        n_test, n_validation = round(n * self.test_share), round(n * self.validation_share)
        parts = np.split(order, (n - n_test - n_validation, n - n_test))
        families = content.families(own.rows)
        earlier: NDArray[np.uint64] = np.zeros(0, np.uint64)
        made: dict[Split, Rows] = {}
        n_repeated = n_copies = 0
        for split, places in zip(_SPLITS, parts, strict=True):
            is_new = ~np.isin(families[places], earlier)
            n_repeated += int((~is_new).sum())
            rows = own.rows.take(places[is_new])
            made[split] = rows if split == "train" else without_copies(rows, self.normal)
            n_copies += int(is_new.sum()) - len(made[split])
            earlier = np.concatenate([earlier, families[places]])
        excluded = {_UNTIMED: int(len(times) - n), _REPEATED: n_repeated, doubts.COPY: n_copies}
        sentences = (
            f"Rows of {own.path}, by time: {_sizes(made)}.",
            _later_repeats(n_repeated, content.what_is_whole),
            *_known_but_for_numbers(made, content.unnumbered),
        )
        return Splits(made, excluded, own.rows, " ".join(sentences))


def _sizes(rows: Mapping[Split, Rows]) -> str:
    """Return how many rows each split has, and of which time."""
    n = {split: f"{len(some):,}" for split, some in rows.items()}
    columns = (some.column("times") for some in rows.values())
    ends_s = [time for times in columns if len(times) for time in (times.min(), times.max())]
    borders = [f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}" for seconds in ends_s]
    if len(borders) < 6:
        return f"{n['train']} to train on, {n['validation']} validation rows, {n['test']} test rows"
    return (
        f"{n['train']} to train on ({borders[0]} to {borders[1]}), {n['validation']} "
        f"validation rows (to {borders[3]}), {n['test']} test rows (to {borders[5]}, UTC)"
    )


def _later_repeats(n: int, what_is_whole: str) -> str:
    omitted = counted(n, "later row is", "later rows are", spec=",") + " left out, found"
    of = f"an earlier one's {what_is_whole}, or nearly a copy with the same numbers"
    return f"{omitted} to be of {of}." if n else f"No later row was found to be of {of}."


def _known_but_for_numbers(
    rows: Mapping[Split, Rows], unnumbered: NDArray[np.uint64]
) -> Iterator[str]:
    """Yield how many test rows a training row equals but for its numbers, where some are."""
    train, test = (rows[split] for split in ("train", "test"))
    if not len(train) or not len(test):
        return
    of_train, of_test = (
        unnumbered[some.column("conversations").astype(np.int64)] for some in (train, test)
    )
    if n := int(np.isin(of_test, of_train).sum()):
        are = "differs" if n == 1 else "differ"
        yield f"{n:,} of {len(of_test):,} test rows {are} from a training row in numbers alone."


@dataclass(frozen=True)
class LogTask(ConversationTask[LogContent], Log):
    """Logged requests with their answers, split by time."""

    name: str = "logs"
    """Name shown in tables and written into records."""
    answers: Literal["trust", "verify", "relabel"] = "verify"
    """Logged answers: trust all, verify them and leave out what is doubtful, or relabel: let a
    teacher answer the doubtful ones anew."""

    def __post_init__(self) -> None:
        """Check the settings, and every row of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if self.answers not in ("trust", "verify", "relabel"):
            raise ValueError(f"answers={self.answers}: known are trust, verify, relabel.")
        super().__post_init__()

    # --- what it is put together of --------------------------------------------------------------

    @property
    @override
    def reader(self) -> LogReader:
        return LogReader(self.chats, self.answers == "trust", self._against_schema)

    @property
    @override
    def splitter(self) -> TimeSplitter:
        return TimeSplitter(self.validation_share, self.test_share, self.normal)

    @override
    def canonical(self, key: str, answer: str, options: Sequence[str]) -> str:
        try:
            return super().canonical(key, answer, options)
        except ValueError:
            if self.answers == "trust" or self.schema is None:
                raise
            return answer  # is doubtful, and no broken line

    def _against_schema(self, answer: str, options: Sequence[str] = ()) -> Doubt | None:
        if self.schema is None:
            return None
        try:
            self.measure.canonical(answer, options)
        except ValueError:
            return Doubt.NO_MATCH
        return None

    # --- the logged model ------------------------------------------------------------------------

    def teachers(self) -> list[LoggedTeacher]:
        """Return the model that answered, at the price of its own card."""
        return [LoggedTeacher().of_log(self)]

    def side_test(self, items: Sequence[Item], seed: int = 0) -> AgainstLog | None:
        """Return the comparison with the model that answered; None where nothing is proven."""
        return AgainstLog.of(self, items, seed)

    @cached_property
    def logged(self) -> LoggedModel:
        """What the answers of the validation time prove of the model that gave most of them."""
        validation = self.splits.rows["validation"]
        start, stop = self._starts_s
        known = self._families_in("train")
        late: dict[tuple[str, str], tuple[Doubt, Row]] = {}
        for why, row in self.doubtful:
            # As the others: what repeats an earlier row is left out, and a copy counts once.
            if start <= time_of(row) < stop and self._key_of(row) not in known:
                late.setdefault((normalised(row.question), _form(row.answer)), (why, row))
        rows: list[tuple[Doubt | None, Row]] = [
            *((None, row) for row in validation),
            *late.values(),
        ]
        checks = self.content.checks.values()
        return model_of(rows, self.schema is not None or any(check.tell for check in checks))

    def _families_in(self, *splits: Split) -> set[int]:
        families = (self.content.families(self.splits.rows[split]) for split in splits)
        return {family for some in families for family in some.tolist()}

    def _key_of(self, row: Row) -> int:
        assert row.provenance is not None and self.content.keys is not None
        return int(self.content.keys[row.provenance.conversation])

    @property
    def _starts_s(self) -> tuple[float, float]:
        """When validation and test begin, in seconds since 1970."""
        columns = (self.splits.rows[split].column("times") for split in ("validation", "test"))
        validation, test = (float(times.min()) if len(times) else inf for times in columns)
        return validation, test

    def logged_answer(self, chat: Sequence[Message]) -> AnswerText | None:
        """Return what was logged for a chat of a training row, as the prompt `zero_shot` asks."""
        history = list(chat)
        if self.prompt.opening and history[:1] == self.prompt.opening:
            history = history[1:]
        return self._known_answers.answer(as_question(history))

    @cached_property
    def _known_answers(self) -> AnswersByQuestion:
        return AnswersByQuestion(self.splits.rows["train"])

    def doubted(self, n: int, seed: int = 0) -> list[Item]:
        """Return requests of the test time whose logged answer does not pass the checks."""
        _, start = self._starts_s
        known = self._families_in("train", "validation")
        items: dict[str, Item] = {}
        for why, row in self.doubtful:
            is_new = self._key_of(row) not in known
            if why != Doubt.CONTRADICTED and time_of(row) >= start and is_new:
                item = self.item_of(row)
                items.setdefault(item.id, item)
        return sorted(items.values(), key=lambda item: order_key(item.id, seed))[:n]

    def item_of_chat(self, chat: Sequence[Message]) -> Item | None:
        """Return the item of a history; of several workloads it is not known which it is of."""
        item, workloads = super().item_of_chat(chat), [*self.content.checks]
        if item is None or len(workloads) != 1:
            return item
        return replace(item, origin=workloads[0])

    def refute(self, item: Item, text: str) -> Reason | None:
        """Return what is wrong with an answer: that it is none, or doubtful by the checks."""
        return super().refute(item, text) or self.doubt(item, text)

    def doubt(self, item: Item, text: str) -> Doubt | None:
        """Return which check an answer to a request of the log does not pass; None if it does."""
        answer = self.parse(text)
        if answer is None:
            return Doubt.NO_ANSWER
        checks = self.content.checks.get(item.origin)
        doubt = checks.doubt(item.question, answer) if checks is not None else None
        return doubt or self._against_schema(answer)

    @override
    def item_of(self, row: Row) -> Item:
        return replace(super().item_of(row), origin=workload_in(row))

    # --- doubtful answers ------------------------------------------------------------------------

    @cached_property
    def _to_relabel(self) -> list[Row]:
        """Return the doubtful rows of the time that is trained on, none of which is held out."""
        if self.answers != "relabel":
            return []
        train = self.splits.rows["train"]
        last_s = float(train.column("times").max()) if len(train) else 0.0
        known = self._families_in(*_SPLITS)
        by_question: dict[str, Row] = {}
        for _, row in self.content.doubtful:
            is_late = isnan(time_of(row)) or time_of(row) > last_s
            if not is_late and self._key_of(row) not in known:
                by_question.setdefault(row.question, row)
        return list(by_question.values())

    @property
    def n_unlabelled(self) -> int:
        """How many doubtful rows a teacher is to answer anew."""
        return len(self._to_relabel)

    @property
    @override
    def how_to_label(self) -> str:
        return "Doubtful ones are answered anew with task.answers=relabel, if there are any"

    def unlabelled(self, n: int, seed: int = 0) -> list[Item]:
        """Return up to `n` of them without their logged answers."""
        items = [replace(self.item_of(row), answer="", choices=()) for row in self._to_relabel]
        return sorted(items, key=lambda item: order_key(item.id, seed))[:n]

    @property
    def doubtful(self) -> tuple[tuple[Doubt, Row], ...]:
        """Rows whose logged answer is not used, each with the reason."""
        return self.content.doubtful

    @property
    @override
    def left_out(self) -> dict[str, int]:
        reasons = Counter(f"answer that is {why}" for why, _ in self.doubtful)
        return {**super().left_out, **reasons}

    @override
    def refusals(self) -> list[Reason]:
        reasons = super().refusals()
        n, of = self.splits.excluded[_REPEATED], len(self.content.files[0].rows)
        share = self.test_share + self.validation_share
        if not reasons or n < _MANY_REPEATED * share * of:
            return reasons
        return [LaterRowsRepeat(self.path, n, of)]

    @property
    def complaints(self) -> tuple[Reason, ...]:
        """Return what is doubtful about the rows, with how many answers are not used and why."""
        counts = Counter(doubt for doubt, _ in self.doubtful)
        if not counts:
            return super().complaints
        n_relabelled = self.n_unlabelled if self.answers == "relabel" else None
        not_used = AnswersNotUsed(self.path, dict(counts.most_common()), n_relabelled)
        return not_used, *super().complaints
