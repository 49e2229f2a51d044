"""The user's own file of requests as a task: which tools are called, and with what."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from stratos.contrib.logs.inferred import signature
from stratos.contrib.logs.words import OtherWorkloads, SecretsReplaced
from stratos.contrib.tools.calls import (
    Call,
    begins_call,
    calls_of,
    is_right,
    overlap,
    overlap_of_arguments,
    question_of_request,
    read,
    why_invalid,
    written,
)
from stratos.contrib.tools.grounding import facts_in, number_facts, words_in
from stratos.contrib.tools.live_turns import ToolTurns
from stratos.contrib.tools.replay import Conversations, conversations_in
from stratos.contrib.tools.request_drawer import Draws, Injected, gives_away, wording_of
from stratos.contrib.tools.signatures import (
    grammar_of,
    line_of,
    messages_in,
    question_of,
    request_of,
    tools_in,
    tools_of,
)
from stratos.contrib.tools.tool_rows import (
    MOST_CHECKED,
    TEXT,
    Families,
    Names,
    Texts,
    ToolRowReader,
    asked_in,
    fields_of_answer,
    most_frequent,
    slice_of,
)
from stratos.contrib.tools.trace_drawer import made_of
from stratos.contrib.tools.turn_checks import Place
from stratos.contrib.tools.words import (
    DoubtfulTurns,
    NotRecovered,
    ToolsInferred,
    UncheckedTurns,
)
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import ConfigError
from stratos.core.formats import counted, listed
from stratos.core.reasons import Reason
from stratos.tasks.answers import AnswerText, nearest_by_words, word_f1
from stratos.tasks.base import Item, Message, Score
from stratos.tasks.chat import Prompt, QuestionPrompt
from stratos.tasks.dedup.hashes import content_id, id_of, order_key
from stratos.tasks.dedup.near import Alike
from stratos.tasks.dedup.splits import HashSplitter, Splits
from stratos.tasks.file_task import FileTask
from stratos.tasks.files import read_records
from stratos.tasks.metrics import Metric
from stratos.tasks.reader import Checker, Content, FileReader, RowChecker
from stratos.tasks.rows import Fields, FileRows, Record, RowSource
from stratos.tasks.table import Row

SIMPLE, MULTIPLE, PARALLEL, IRRELEVANT = _SLICES = "simple", "multiple", "parallel", "irrelevant"
_TEXT_DUE = "Where a text for the user is due, and no call, the answer is that text."
"""What teachers are told of a log whose turns in text are learnt."""
_N_STATES = 2000
"""Turns that tell what mostly follows a call."""
_LEAST_F1 = 0.5
"""Word overlap with the logged text from which a text is right."""


@dataclass(frozen=True)
class Calls(Metric):
    """Compares calls; a score looks at the schemas of the tools, too."""

    ordered: bool = False

    @override
    def read(self, text: str) -> AnswerText | None:
        """Return the calls that a text makes; None where none can be read."""
        calls = read(text)
        return None if calls is None else written(calls)

    @override
    def compare(self, answer: str, gold: str) -> float:
        """Return 1 for the same calls with the same arguments."""
        return float(self.normal(answer) == self.normal(gold))

    @override
    def normal(self, answer: str) -> str:
        """Return calls in an order that all that are equal share; a text as it is."""
        given = read(answer) if answer[:1] == "[" else None
        if given is None:
            return answer
        calls = [written([call]) for call in given]
        return "".join(calls if self.ordered else sorted(calls))

    @override
    def score(self, text: str, item: Item) -> Score:
        """Compare the calls that a text makes with the gold calls; F1 is over their parts.

        Where a text is due, it is right with half of its words, without a call, and without a
        number or a name that the logged text does not have.
        """
        calls = read(text)
        if item.slice == TEXT:
            f1 = 1.0 if text.strip() == item.answer else word_f1(text, item.answer)
            foreign = number_facts(facts_in(text)) - number_facts(words_in(item.answer))
            is_text = f1 == 1 or not (calls or foreign)
            return Score(float(is_text and f1 >= _LEAST_F1), f1 * is_text, bool(text.strip()))
        if calls is None:
            return Score(0.0, 0.0, False)
        gold = gold_of(item)
        right = is_right(calls, gold, tools_in(item.question), ordered=self.ordered)
        return Score(float(right), 1.0 if right else overlap(calls, gold), True)


@dataclass(frozen=True)
class ToolsContent(Content):
    """What was read of the files of a tools task."""

    reader: ToolRowReader = field(default_factory=lambda: ToolRowReader(Names("", "", "", "")))
    requests: Families = field(default_factory=Families)


@dataclass(frozen=True)
class RequestReader:
    """Reads requests with their tools."""

    files: FileReader
    names: Names
    workload: str | None
    texts: Texts
    tools: list[Any] | None
    """That the user names, for rows without any."""
    tools_path: str | None
    """File of them; what is inferred is written there, where it is missing."""
    answers: Literal["trust", "verify", "relabel"]
    """How those of whole conversations are taken."""
    doubts_path: str | None = None
    """File into which the turns are written that are probably wrong."""

    def read(self) -> ToolsContent:
        """Return the requests of all files.

        Raises:
            ConfigError: they cannot be used.
        """
        rows = ToolRowReader(
            self.names, self.workload, self.texts, self.tools,
            verifies=self.answers != "trust", relabels=self.answers == "relabel",
        )  # fmt: skip
        named = self.files.labelled_files.items()
        with suppress(OSError):  # told where the file is read
            rows.survey(next(path for _, path in named))
        if self.tools is None and self.tools_path is not None:
            raise _written(self.tools_path, rows)
        settle = most_frequent if rows.are_traces else None
        reader = replace(self.files, source=RowSource(partial(self._records, rows), settle))
        files = tuple(self._file(reader, rows, key, path) for key, path in named)
        if rows.n_texts and not rows.n_calling:
            path = next(iter(self.files.labelled_files.values()))
            raise ConfigError(
                f"{path}: no answer calls a tool. Texts alone are learnt by +task=chat: "
                f"python -m stratos +task=chat task.path={path}"
            )
        if self.doubts_path is not None:
            _write_doubts(self.doubts_path, rows)
        families = Families.of(rows.alike)
        rows.alike = Alike()  # the signatures are needed no more
        return ToolsContent(
            files, passed=rows.passed, keys=families.keys, reader=rows, requests=families
        )

    @staticmethod
    def _records(rows: ToolRowReader, path: str) -> Iterator[tuple[str, Record]]:
        for line, data in read_records(path):
            if isinstance(data, Reason):
                yield line, data
            else:
                yield from rows.read(path, line, data)

    @staticmethod
    def _file(reader: FileReader, rows: ToolRowReader, key: str, path: str) -> FileRows:
        """Read a file, and say what was left out of one that has no row.

        Raises:
            ConfigError: it cannot be used.
        """
        before = rows.passed.total() + rows.n_other
        try:
            return reader.labelled(key, path)
        except ConfigError as error:
            if rows.n_logged or rows.n_traces or rows.passed.total() + rows.n_other == before:
                raise
            counts = [*rows.passed.most_common(), ("rows of other workloads", rows.n_other)]
            omitted = listed(f"{n:,} {kind}" for kind, n in counts if n)
            raise ConfigError(
                f"{error}\n    Left out of {path}: {omitted}. "
                f"See what it holds: stratos logs {path}"
            ) from error


@dataclass(frozen=True)
class RequestSplitter:
    """Splits by a hash of the request, whatever its tools."""

    by_hash: HashSplitter

    def split(self, content: ToolsContent) -> Splits:
        """Return the rows of each split."""
        splits = self.by_hash.split(content)
        if content.reader.are_traces:
            how = f"{splits.how} No conversation has turns in two splits."
            return replace(splits, how=how)
        session = "" if content.requests.n_of_no_session else " one session,"
        return replace(
            splits,
            how=f"{splits.how} Of one split are equal requests whatever their tools, those of"
            f"{session} one history, and near duplicates that were found.",
        )


@dataclass(frozen=True)
class ToolsTask(FileTask[ToolsContent]):
    """Requests, the tools that are offered, and the calls that answer them."""

    code_version = 7
    calls_tools = True
    test_path: str | None = None
    """A file of test requests, which is the whole test split; null takes a part of `path`."""
    name: str = "tools"
    """Name shown in tables and written into records."""
    question: str = "question|request|query|prompt"
    """Field with the request; `a|b` takes the first of them that a file has."""
    conversation: str = "messages"
    """Field with messages in place of the request; the last one's calls may be the gold calls."""
    tools: str = "tools|functions|function"
    """Field with the tools."""
    answer: str = "calls|tool_calls|answer"
    """Field with the gold calls; an empty list where no tool fits."""
    workload: str | None = None
    """Id of the only workload of a log to read, as `stratos logs` lists them; null reads
    all."""
    tools_path: str | None = None
    """A file with the JSON list of the tools, for rows without any; null infers them from the
    calls."""
    texts: Texts = "auto"
    """A turn of the model in text is learnt as it is (learnt), or as the decision to call no tool
    (no_call); auto learns those of whole conversations and of spans."""
    answers: Literal["trust", "verify", "relabel"] = "verify"
    """Turns of whole conversations: trust all, verify them and leave out what is probably wrong by
    the other conversations and the tools, or relabel: let a teacher answer these anew."""
    doubts_path: str | None = None
    """A file into which the turns are written that are probably wrong: where each stands, why, and
    how probably."""
    ordered: bool = False
    """Whether the order of several calls counts."""
    n_drawn: int = 2000
    """Requests that injection makes from the tools' schemas, beside the training rows."""
    drawn_from: Literal["rows", "schemas"] = "rows"
    """What injection learns of the training rows: rows (they are learnt, and their wordings and
    values are used), or schemas (their tools alone)."""
    instruction: str = (
        "Call the tools that the request needs. The answer is a JSON list of calls, such as "
        '[{"name": "tool", "arguments": {"argument": "value"}}], or [] if no tool fits.'
    )
    """What a model is told before a request."""
    n_examples: int = 2
    """Training rows used as few-shot examples."""
    test_share: float = 0.25
    """Share of the rows for the test split; ignored with a `test_path`."""

    template_prefix = Path(__file__).with_name("offered.jinja").read_text(encoding="utf-8")
    """The student's chat template takes `tools`: they and the messages are written as
    `signatures.question_of` does, as the student is trained on them."""

    def __post_init__(self) -> None:
        """Check the settings, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if self.n_drawn < 0:
            raise ValueError("n_drawn must be at least 0.")
        if self.answers not in ("trust", "verify", "relabel"):
            raise ValueError(f"answers={self.answers}: it is trust, verify or relabel.")
        if self.drawn_from not in ("rows", "schemas"):
            raise ValueError(f"drawn_from={self.drawn_from}: it is rows or schemas.")
        if self.drawn_from == "schemas" and not self.n_drawn:
            raise ValueError("n_drawn=0: drawn_from=schemas learns from requests that are drawn.")
        super().__post_init__()

    # --- what it is put together of --------------------------------------------------------------

    @property
    @override
    def fields_named(self) -> Fields:
        return Fields(self.question, self.answer)

    @property
    @override
    def slices(self) -> tuple[str, ...]:  # type: ignore[override]
        """By how many tools and calls there are; texts where the files that were read have some."""
        content = vars(self).get("content")  # not there yet while it is read
        has_texts = content is not None and content.reader.n_texts > 0
        return (*_SLICES, TEXT) if has_texts else _SLICES

    @property
    @override
    def checker(self) -> Checker:
        return RowChecker((*_SLICES, TEXT), self.slice_of, self.canonical)

    @override
    def slice_of(self, key: str, row: Row) -> str:
        return row.slice

    @property
    @override
    def reader(self) -> RequestReader:
        names = Names(self.question, self.conversation, self.tools, self.answer)
        path = self.tools_path
        tools = None if path is None or not _is_there(path) else _read_tools(path)
        files = self.file_reader
        return RequestReader(
            files, names, self.workload, self.texts, tools, path, self.answers, self.doubts_path
        )

    @property
    @override
    def files_beside(self) -> tuple[str, ...]:
        path = self.tools_path
        return () if path is None or not _is_there(path) else (path,)

    @property
    @override
    def splitter(self) -> RequestSplitter:
        return RequestSplitter(HashSplitter(self.validation_share, self.test_share, self.normal))

    @cached_property
    @override
    def measure(self) -> Metric:
        return Calls(self.ordered)

    @cached_property
    @override
    def prompt(self) -> Prompt:
        form = _TEXT_DUE if self.content.reader.learns_texts else ""
        return QuestionPrompt(self.instruction, form)

    # --- rows ------------------------------------------------------------------------------------

    @override
    def item_of(self, row: Row) -> Item:
        assert row.provenance is not None and self.content.keys is not None
        family = id_of(int(self.content.keys[row.provenance.conversation]))
        item = replace(super().item_of(row), family=family)
        return replace(item, origin=row.options[0]) if row.options else item

    @override
    def choices_of(self, item: Item) -> tuple[str, ...]:
        return ()

    @property
    @override
    def notes(self) -> tuple[str, ...]:
        rows = [row for part in self.splits.rows.values() for row in part]
        counts = Counter(row.slice for row in rows)
        sizes = ", ".join(f"{counts[name]:,} {name}" for name in self.slices if counts[name])
        reader = self.content.reader
        logged = (
            f" {reader.n_logged:,} were logged with their responses." if reader.n_logged else ""
        )
        what = f"Requests of {self.path}"
        if reader.are_traces:
            what = f"Turns of the model in {self.path}"
            if reader.n_traces and not reader.n_logged:
                what = f"{what}, {counted(reader.n_traces, 'conversation', spec=',')}"
            logged = f"{logged} {self._next_tool}"
        notes = [*super().notes, f"{what}: {sizes}.{logged}"]
        if reader.are_inferred:
            signatures = tuple(map(signature, reader.tools or ()))
            notes.append(str(ToolsInferred(self.path, signatures)))
        if reader.doubtful:
            reasons = Counter(turn.doubt.reason for turn in reader.doubtful)
            first = {turn.doubt.reason: turn.where for turn in reversed(reader.doubtful)}
            of_each = tuple((n, why, first[why]) for why, n in reasons.most_common())
            n_relabelled = self.n_unlabelled if self.answers == "relabel" else None
            paths = self.path, of_each, self.doubts_path, self.test_path
            doubts = DoubtfulTurns(*paths, n_relabelled)
            notes.append(str(doubts))
        if reader.are_unchecked:
            notes.append(str(UncheckedTurns(self.path, MOST_CHECKED)))
        if self.workload is not None:
            notes.append(str(OtherWorkloads(self.path, self.workload, reader.n_other)))
        if reader.n_secrets:
            notes.append(str(SecretsReplaced(reader.n_secrets)))
        return tuple(notes)

    @cached_property
    def _next_tool(self) -> str:
        """What it is worth to answer each turn by the tools that mostly follow the last call."""
        train, validation = (self.items(split, _N_STATES) for split in ("train", "validation"))
        usual = _usual_tools(train)
        n = sum(usual.get(state) == names for state, names in map(item_state, validation))
        return (
            f"What mostly follows the last message and call (a tool, or a text) is right in {n:,} "
            f"of {counted(len(validation), 'validation turn', spec=',')}."
        )

    @override
    def request_of(self, chat: Sequence[Message]) -> dict[str, Any] | None:
        question = chat[-1]["content"]
        return request_of(question) if len(chat) == 1 and tools_in(question) else None

    @override
    def chat_of_request(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]
    ) -> list[Message]:
        return [{"role": "user", "content": question_of_request(messages, tools)}]

    @override
    def own_words(self, question: str) -> str:
        """Return what the user wrote: tools, and their results, repeat."""
        return asked_in(messages_in(question))

    @override
    def in_situation(self, train: Sequence[Item], items: Sequence[Item]) -> list[str] | None:
        """Call the tools that mostly follow the last message and call, as they mostly are called.

        None of requests alone: all are in one situation.
        """
        if not self.content.reader.are_traces:
            return None
        usual = _usual_tools(train)
        answers: dict[str, Counter[str]] = defaultdict(Counter)
        for item in train:
            state, names = item_state(item)
            if usual[state] == names:
                answers[state][item.answer] += 1
        most = {state: counts.most_common(1)[0][0] for state, counts in answers.items()}
        return [most.get(item_state(item)[0], "") for item in items]

    @override
    def conversations(self, seed: int = 0) -> Conversations | None:
        """Return whole conversations of the test split; None of requests alone."""
        if not self.content.reader.are_traces:
            return None
        has_texts = self.content.reader.learns_texts
        return conversations_in(self.splits.rows["test"], self.score, seed, learns_texts=has_texts)

    @override
    def turns(self) -> ToolTurns:
        learns_texts = self.content.reader.learns_texts
        return ToolTurns(self.parse, learns_texts, self.reader.names, self.workload)

    @override
    def groups_of(self, items: Sequence[Item]) -> list[str]:
        """Return the conversation of each turn: one goes on as it has begun; else the family."""
        if not self.content.reader.are_traces:
            return super().groups_of(items)
        turns = self.turns().of_answers((item.question, item.answer) for item in items)
        return [turn.conversation for turn in turns]

    @override
    def lookup(self, train: Sequence[Item], items: Sequence[Item]) -> list[str]:
        """Answer each request, or turn of a conversation, as the nearest training one is."""
        known, requests = ([_nearby(item.question) for item in some] for some in (train, items))
        places = nearest_by_words(known, requests) if known else []
        return [train[index].answer for index in places] or ["" for _ in items]

    # --- reading and scoring ---------------------------------------------------------------------

    @override
    def parse(self, text: str) -> AnswerText | None:
        answer = super().parse(text)
        is_text = answer is None and self.content.reader.n_texts and not begins_call(text)
        return text.strip() or None if is_text else answer

    @override
    def field_scores(self, item: Item, answer: str | None) -> dict[str, float]:
        """Return whether calls are valid, whether they name the right tools, and F1 of the rest."""
        calls, gold = read(answer) if answer else None, gold_of(item)
        if item.slice == TEXT:
            return {
                "tools": float(bool(answer) and not calls),
                "text": self.measure.score(answer or "", item).f1,
            }
        tools = tools_in(item.question)
        named = Counter(call.name for call in gold)
        scores = {
            "(valid)": float(calls is not None and why_invalid(calls, tools) is None),
            "tools": float(calls is not None and Counter(call.name for call in calls) == named),
        }
        if any(call.arguments for call in gold):
            right = calls is not None and is_right(calls, gold, tools, ordered=self.ordered)
            scores["arguments"] = 1.0 if right else overlap_of_arguments(calls or (), gold)
        return scores

    @override
    def answer_schema(self, item: Item) -> Mapping[str, Any] | None:
        """Return the JSON Schema of a list of calls of the tools that an item offers.

        None where turns in text are learnt, too.
        """
        if self.content.reader.n_texts:
            return None
        return _grammar("\n".join(tool.line for tool in tools_in(item.question)), item.question)

    @override
    def verify(self, item: Item) -> Reason | None:
        """Check that the calls are valid and are read back from the answer."""
        problem = why_invalid(gold_of(item), tools_in(item.question))
        if problem is not None:
            return problem
        return None if self.score(item.answer, item).exact == 1 else NotRecovered()

    @override
    def refute(self, item: Item, text: str) -> Reason | None:
        """Return why an answer cannot be read, or why its calls are none of the tools'."""
        answer = self.parse(text)
        if answer is None:
            return super().refute(item, text)
        return why_invalid(read(answer) or [], tools_in(item.question))

    # --- doubtful turns --------------------------------------------------------------------------

    @cached_property
    def _to_relabel(self) -> dict[str, tuple[Row, Place]]:
        """Doubtful turns of conversations that are not held out, by the id of the item.

        A conversation that begins as a held-out one may go on in another way behind the turn: then
        they are of two families, and the question is the held-out one.
        """
        held_out = {key for item in self.held_out() for key in (item.family, item.id)}
        doubted = ((self.item_of(row), row, turn) for row, turn in self.content.reader.to_relabel)
        return {
            item.id: (row, turn)
            for item, row, turn in doubted
            if held_out.isdisjoint((item.family, item.id)) and item.id not in self._own
        }

    @property
    @override
    def n_unlabelled(self) -> int:
        return len(self._to_relabel) if self.answers == "relabel" else super().n_unlabelled

    @property
    @override
    def how_to_label(self) -> str:
        return "Doubtful turns are answered anew with task.answers=relabel, if there are any"

    @override
    def unlabelled(self, n: int, seed: int = 0) -> list[Item]:
        items = [self.item_of(row) for row, _ in self._to_relabel.values()]
        return sorted(items, key=lambda item: order_key(item.id, seed))[:n]

    @override
    def labelled(self, item: Item, text: str) -> Item | None:
        """Return a turn with another answer; None where it cannot be one, or is doubtful, too."""
        reader = self.content.reader
        fields = fields_of_answer(text, item.question, reader.learns_texts)
        if isinstance(fields, Reason):
            return None
        made = replace(item, answer=fields["answer"], slice=fields["slice"])
        if reader.turn_checks is not None and item.id in self._to_relabel:
            _, turn = self._to_relabel[item.id]
            if reader.turn_checks.doubt(turn, item.question, gold_of(made)) is not None:
                return None
        return made

    @override
    def as_row(self, item: Item, answer: str) -> dict[str, Any]:
        return {**request_of(item.question), "calls": answer}

    # --- injection -------------------------------------------------------------------------------

    @property
    @override
    def n_made(self) -> int:
        is_beside = self.drawn_from == "rows"
        return self._n_beside if is_beside else max(1, self.n_drawn - self.n_train)

    @property
    def _n_beside(self) -> int:
        """Requests that are made beside the rows; beside conversations the turns of those made.

        A request of one turn is answered by a call there only, and none stands for a text.
        """
        return len(self._turns_made) if self.content.reader.are_traces else self.n_drawn

    @cached_property
    def _turns_made(self) -> list[Item]:
        """Turns of conversations that are made of few; none of many."""
        rows, made = self.items("train", self.n_train), list[Item]()
        for question, answer in made_of([r.question for r in rows], [r.answer for r in rows], 0):
            calls = calls_of(answer) if answer[:1] == "[" else None
            slice = TEXT if calls is None else slice_of(tools_in(question), calls)
            family = self.content.requests.family(question)
            made.append(Item(content_id(question), slice, question, answer, family=family))
        return made

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield the training rows, then requests made from calls, or turns of made conversations.

        They are up to `n` in all.

        A request is kept if the call is recovered from it without the answer. With
        `drawn_from=schemas` there are these alone.
        """
        if self.drawn_from == "rows":
            rows = self.items("train", min(n, self.n_train), seed)
            yield from rows
            n = min(n - len(rows), self._n_beside)
            if self.content.reader.are_traces:
                yield from self._turns_made[:n]
                return
            made = Injected.of(rows if n else (), gold_of)
        else:
            made = Injected.of_schemas(self.items("train", self.n_train, seed))
        self._last_draws[:] = [made.draws]
        held_out = frozenset(item.family for item in self.held_out())
        for question, calls, slice in made.draw(min(self.n_drawn, n), seed):
            item = Item(content_id(question), slice, question, written(calls))
            item = replace(item, family=self.content.requests.family(question))
            if item.family not in held_out:
                yield item

    @property
    def drawn_in_vain(self) -> dict[str, int]:
        """Return how many draws of the last `reverse` made no request, by tool and reason."""
        [draws] = self._last_draws
        return draws.by_tool()

    @property
    def never_drawn(self) -> Reason | None:
        """Return for which tools the last `reverse` made no request; None where it made some."""
        [draws] = self._last_draws
        return draws.never()

    @cached_property
    def _last_draws(self) -> list[Draws]:
        """Those of the last `reverse`, alone in a list."""
        return [Draws()]

    @property
    @override
    def n_worded(self) -> int:
        return self.n_drawn if self.drawn_from == "schemas" else self._n_beside

    def wording(self, item: Item) -> list[Message] | None:
        """Return the chat that asks for a drawn request in other words; None for a row's own."""
        return None if item.id in self._own else wording_of(item)

    @cached_property
    def _own(self) -> frozenset[str]:
        return frozenset(item.id for item in self.items("train", self.n_train))

    def reworded(self, item: Item, text: str) -> Item | None:
        """Return a drawn item whose request is another text, with the same tools and calls.

        None where the text gives the calls away: it would be read back whatever it says.
        """
        if gives_away(text, item):
            return None
        question = question_of(tools_in(item.question), [{"role": "user", "content": text}])
        made = replace(item, id=content_id(question), question=question)
        return replace(made, family=self.content.requests.family(question))


def _usual_tools(items: Sequence[Item]) -> dict[str, str]:
    """Return of each state the tools that mostly are called in it: see `item_state`."""
    follows: dict[str, Counter[str]] = defaultdict(Counter)
    for state, names in map(item_state, items):
        follows[state][names] += 1
    return {state: counts.most_common(1)[0][0] for state, counts in follows.items()}


def item_state(item: Item) -> tuple[str, str]:
    """Return who spoke last with the last tool called before a turn, and the tools it calls."""
    messages = messages_in(item.question)
    calls = [message["tool_calls"] for message in messages if "tool_calls" in message]
    last = calls[-1][-1]["name"] if calls else ""
    return f"{messages[-1]['role']} {last}", " ".join(call.name for call in gold_of(item))


def _nearby(question: str) -> str:
    """Return a request; of a conversation its last messages, from the last call or answer on."""
    messages = messages_in(question)
    if len(messages) == 1:
        return str(messages[0]["content"])
    places = [k for k, message in enumerate(messages) if message["role"] == "assistant"]
    return "\n".join(map(line_of, messages[places[-1] if places else 0 :]))


def gold_of(item: Item) -> list[Call]:
    """Return the gold calls of an item, with what else is right."""
    calls = calls_of(item.answer) if item.answer and item.slice != TEXT else []
    if not item.origin:
        return calls
    more = json.loads(item.origin)
    return [
        replace(call, accept=accept, optional=frozenset(optional))
        for call, (accept, optional) in zip(calls, more, strict=True)
    ]


def _is_there(path: str) -> bool:
    return Path(path).expanduser().exists()


def _written(path: str, rows: ToolRowReader) -> ConfigError:
    """Write the tools that were inferred into a file; return what to tell of it."""
    if not rows.are_inferred or rows.tools is None:
        return ConfigError(
            f"task.tools_path={path}: there is no such file, and nothing to write into it: the "
            "rows name their tools, or call none."
        )
    text = json.dumps(rows.tools, indent=2, ensure_ascii=False)
    write_atomically(Path(path).expanduser(), f"{text}\n".encode())
    tools = counted(len(rows.tools), "tool")
    return ConfigError(
        f"{path} is new: it has the {tools} that the calls show. Correct them, then type the same "
        "command again."
    )


def _write_doubts(path: str, rows: ToolRowReader) -> None:
    """Write the turns that are probably wrong as JSON lines, in the order of the conversations.

    Raises:
        ConfigError: the file cannot be written.
    """
    lines = [
        json.dumps(
            {
                "where": turn.where,
                "why": str(turn.doubt.reason),
                "p": round(turn.doubt.probability, 3),
                "answer": turn.logged,
            },
            ensure_ascii=False,
        )
        for turn in rows.doubtful
    ]
    try:
        write_atomically(Path(path).expanduser(), "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise ConfigError(f"task.doubts_path={path} cannot be written: {error}") from error


def _read_tools(path: str) -> list[Any]:
    """Return the tools of a file: a JSON list, as the API has them.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        tools = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        if not tools_of(tools):
            raise ValueError("it names no tool")
    except (OSError, ValueError) as error:
        raise ConfigError(f"task.tools_path={path} is no JSON list of tools: {error}") from error
    return tools if isinstance(tools, list) else [tools]


@lru_cache(maxsize=1024)
def _grammar(tools: str, question: str) -> Mapping[str, Any]:
    return grammar_of(tools_in(question))
