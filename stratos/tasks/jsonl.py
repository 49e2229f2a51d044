"""The user's own file as a task: one JSON object per line, with a question and its answer.

Splits are by a hash of the question, so they are fixed before anything is asked or generated, stay
the same when rows are added, and are disjoint up to case, punctuation and spacing. Where there is a
file of test questions, all of it and nothing else is the test split.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from stratos.errors import ConfigError, StratosError
from stratos.tasks import chat
from stratos.tasks.answers import nearest_by_words, states_answer, word_f1
from stratos.tasks.base import Item, Message, Score, Split, Symbols
from stratos.tasks.files import is_local
from stratos.tasks.metrics import LETTER, LETTERS, Metric, MetricName, metric_of
from stratos.tasks.rows import Fields, Row, Rows, read_rows, shown
from stratos.tasks.split import content_id, family_id, order_key, split_of


@dataclass(frozen=True)
class JsonlTask:
    """Questions and answers from a file of JSON lines, CSV or Parquet."""

    path: str
    """The file: a path, any fsspec URL (s3://…, https://…), or hf://datasets/OWNER/NAME/FILE."""
    test_path: str | None = None
    """A file of test questions, all of which and nothing else are tested; null: a part of `path`
    is."""
    name: str = "jsonl"
    """Name shown in tables and written into records."""
    version: int = 1
    """Raise it when rows change, so that results of other rows are not compared."""
    metric: MetricName = "exact"
    """exact (equal but for case and spacing), numeric (equal as numbers), multiple_choice (the
    letter of an option), regex (the gold answer is a pattern that the whole answer matches) or f1
    (enough words in common)."""
    min_f1: float = 0.8
    """For f1: words in common (harmonic mean of precision and recall) from which it is right."""
    verifier: dict[str, Any] | None = None
    """A dataclass of the user's own in place of `metric`: `_target_` and its fields."""
    question: str = "question"
    """Field with the question; `a|b` is the first of them that a file has."""
    answer: str = "answer"
    """Field with the gold answer."""
    rationale: str | None = None
    """Field with the reasoning that leads to the answer; null where the file has none."""
    split_answer: str | None = None
    """What divides the answer field into rationale and answer (GSM8K: "####"); null: nothing."""
    options: str = "options"
    """Field with the list of options, for multiple_choice."""
    slice: str | None = None
    """Field with the slice of a row; null puts all rows into the first of `slices`."""
    slices: tuple[str, ...] = ("main",)
    """Slices that are reported apart and together."""
    on_error: Literal["stop", "skip"] = "stop"
    """Broken lines: stop before anything is spent, or skip them, with a warning before anything is
    asked, counted in the corpus record."""
    instruction: str = "Answer the question."
    """What a teacher is told first."""
    n_examples: int = 4
    """Training rows that stand as examples in few-shot prompts."""
    validation_share: float = 0.15
    """Share of the rows that steer the run."""
    test_share: float = 0.25
    """Share of the rows that only the last measurement reads; nothing with a `test_path`."""
    prompts: tuple[str, ...] = ("default", "zero_shot", "reasoning")
    """Prompts that a teacher is tried with: few-shot, without examples, step by step."""

    can_reverse = True
    """The labelled rows are answers first; their reasoning is in the file, or is written."""

    def __post_init__(self) -> None:
        """Check the settings, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if unknown := [prompt for prompt in self.prompts if prompt not in chat.HOW]:
            raise ValueError(f"prompts={unknown}: known are {', '.join(chat.HOW)}.")
        shares = (self.validation_share, self.test_share)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(
                "validation_share and test_share must be above 0 and below 1 together."
            )
        if not self.slices or not self.prompts or self.n_examples < 0:
            raise ValueError("slices and prompts cannot be empty, nor n_examples below 0.")
        if not 0 < self.min_f1 <= 1:
            raise ValueError("min_f1 must be above 0 and at most 1.")
        if self.verifier is not None:
            _ = self._metric
        paths = self._paths.values()
        if folders := [
            path for path in paths if is_local(path) and Path(path).expanduser().is_dir()
        ]:
            raise ValueError(f"{folders[0]} is a folder: name a file in it.")
        if all(is_local(path) and Path(path).expanduser().is_file() for path in paths):
            try:
                _ = self._by_split
            except ConfigError as error:
                raise ValueError(str(error)) from error

    # --- items -----------------------------------------------------------------------------------

    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        """Return `n` items of a split in an order fixed by the seed; the slices alternate."""
        found = self._by_split[split]
        queues = [
            sorted((i for i in found if i.slice == name), key=lambda i: order_key(i.id, seed))
            for name in ([slice] if slice is not None else self.slices)
        ]
        longest = max(map(len, queues), default=0)
        turns = (queue[k] for k in range(longest) for queue in queues if k < len(queue))
        return [item for item, _ in zip(turns, range(n), strict=False)]

    @property
    def n_train(self) -> int:
        """How many training items there are."""
        return len(self._by_split["train"])

    def held_out(self) -> list[Item]:
        """Return every validation and test item."""
        return [*self._by_split["validation"], *self._by_split["test"]]

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield up to `n` labelled training items; those that bring a reasoning path bring it."""
        yield from self.items("train", min(n, self.n_train), seed)

    def verify(self, item: Item) -> str | None:
        """Check that the path announces no other answer, and that the whole text reads as it."""
        if not item.rationale:
            return "it has no reasoning path"
        if states_answer(item.rationale) and self.score(item.rationale, item).exact < 1:
            found = shown(str(self.parse(item.rationale)))
            return f"its path ends in {found}, its answer is {shown(item.answer)}"
        if self.score(self.completion(item), item).exact < 1:
            return f"the answer {shown(item.answer)} cannot be read back from its text"
        return None

    @cached_property
    def has_paths(self) -> bool:
        """True if training rows bring the reasoning that leads to their answers."""
        return any(item.rationale for item in self._by_split["train"])

    def checks_steps(self, item: Item) -> bool:
        """Return False: `verify` looks at where a path ends, not at its steps."""
        return False

    @property
    def left_out(self) -> dict[str, int]:
        """Return how many lines of the files are not used, by reason."""
        files = self._files
        counts = {
            "broken line": sum(len(rows.problems) for rows in files),
            "training question of the test file": self._split[1],
        }
        return {reason: n for reason, n in counts.items() if n}

    @property
    def complaints(self) -> tuple[str, ...]:
        """Return what is wrong with lines that `on_error=skip` left out, and with the verifier."""
        if self.on_error == "stop" and self.verifier is None:
            return ()
        told = (
            (rows.complaint() if rows.problems else "", self._doubts(rows)) for rows in self._files
        )
        return tuple(complaint for of_file in told for complaint in of_file if complaint)

    @property
    def parts(self) -> tuple[Any, ...]:
        """Return the user's own objects, whose code counts like the task's."""
        verifier = getattr(self._metric, "verifier", None)
        return () if verifier is None else (verifier,)

    @cached_property
    def _metric(self) -> Metric:
        return metric_of(self.metric, self.min_f1, self.verifier)

    @property
    def _fields(self) -> Fields:
        options = self.options if self._is_choice else None
        return Fields(self.question, self.answer, self.rationale, self.slice, options)

    @property
    def _is_choice(self) -> bool:
        return self.metric == "multiple_choice" and self.verifier is None

    @property
    def _paths(self) -> dict[str, str]:
        """Return key in the config to file: that of training questions, then those of tests."""
        paths = {"task.path": self.path, "task.test_path": self.test_path}
        return {key: path for key, path in paths.items() if path}

    @cached_property
    def _files(self) -> tuple[Rows, ...]:
        return tuple(self._read(key, path) for key, path in self._paths.items())

    def _read(self, key: str, path: str) -> Rows:
        try:
            found = read_rows(path, self._fields, self._check)
        except OSError as error:
            raise ConfigError(f"{key}={path} cannot be read: {error}{self._or_here()}") from error
        if found.same_everywhere and not found.rows:
            raise ConfigError(
                f"{path}: every line {found.same_everywhere}. Name the fields it has with "
                "task.question=… and task.answer=…"
            )
        if found.problems and self.on_error == "stop":
            raise ConfigError(
                f"{found.complaint()}\n    Mend them, or leave them out with task.on_error=skip."
            )
        if not found.rows:
            raise ConfigError(f"{path} has no {'good lines' if found.n_lines else 'lines'}.")
        if self.rationale and key == "task.path" and not any(row.rationale for row in found.rows):
            raise ConfigError(
                f"task.rationale={self.rationale}: no line of {path} has anything there. Name the "
                "field with the reasoning, or leave it out."
            )
        _ = self._doubts(found)
        return found

    def _doubts(self, rows: Rows) -> str:
        """Try the user's verifier on a gold answer; say if that is not right by it, else "".

        Raises:
            ConfigError: the verifier fails on it.
        """
        if self.verifier is None:
            return ""
        row = rows.rows[0]
        where = f"the gold answer {shown(row.answer)} of {row.line} of {rows.path}"
        try:
            _ = self._metric.read(row.answer)
            found = self._metric.compare(row.answer, row.answer)
        except StratosError as error:
            raise ConfigError(f"{error} It was tried on {where}.") from error
        if found >= 1:
            return ""
        return (
            f"task.verifier {type(self.parts[0]).__name__} gives {found:g} to {where}, compared "
            "with itself, where 1 is right. Unless gold answers are no answers themselves (a "
            "pattern, a test), no answer will count as right: mend its compare(answer, gold)."
        )

    def _or_here(self) -> str:
        """Say how to name files of this machine, where the task's are elsewhere."""
        away = [f"{key}=<file>" for key, path in self._paths.items() if not is_local(path)]
        if not away:
            return ""
        return f". Or name files of this machine (JSON lines, CSV, Parquet): {' '.join(away)}"

    @property
    def _by_split(self) -> Mapping[str, list[Item]]:
        return self._split[0]

    @cached_property
    def _split(self) -> tuple[dict[str, list[Item]], int]:
        """Return the items of each split, and how many rows for training were tested, too."""
        rows, tested = self._divided()
        found: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        answers = sorted({row.answer for row in (*rows, *tested)})
        found["test"] = [self._item(row, answers) for row in tested]
        forbidden = {item.family for item in found["test"]}
        test_share = 0.0 if tested else self.test_share
        n_forbidden = 0
        for row in rows:
            item = self._item(row, answers)
            if item.family in forbidden:
                n_forbidden += 1
            else:
                found[split_of(item.family, self.validation_share, test_share)].append(item)
        return found, n_forbidden

    def _divided(self) -> tuple[Sequence[Row], Sequence[Row]]:
        """Return the rows that are split by hash, and those that are tested whatever it is."""
        own, *tested = self._files
        return own.rows, [row for rows in tested for row in rows.rows]

    def _check(self, row: Row) -> Row | str:
        """Return a row with its answer in canonical spelling, or what is wrong with it."""
        answer, rationale = row.answer, row.rationale
        if self.split_answer and self.split_answer in answer:
            before, _, answer = answer.rpartition(self.split_answer)
            rationale, answer = rationale or before.strip(), answer.strip()
        row = self._with_slice(row)
        if row.slice not in self.slices:
            known = ", ".join(self.slices)
            return f"its slice is {shown(row.slice) or 'empty'}, not one of {known}"
        try:
            answer = self._metric.canonical(answer, row.options)
        except ValueError as error:
            return str(error)
        question = row.question
        if self._is_choice:
            lines = [f"{a}) {text}" for a, text in zip(LETTERS, row.options, strict=False)]
            question = "\n".join([question, *lines])
        return replace(row, question=question, answer=answer, rationale=rationale)

    def _with_slice(self, row: Row) -> Row:
        return row if self.slice is not None else replace(row, slice=self.slices[0])

    def _item(self, row: Row, answers: Sequence[str]) -> Item:
        item = Item(
            id=content_id(row.question),
            slice=row.slice,
            question=row.question,
            answer=row.answer,
            rationale=row.rationale,
            family=family_id(row.question),
        )
        return replace(item, choices=self._choices(item, answers))

    def _choices(self, item: Item, answers: Sequence[str]) -> tuple[str, ...]:
        """Return four answers, three of them of other rows; none where there are too few."""
        if self._is_choice:
            return tuple("ABCD") if item.question.count("\n") >= 4 and item.answer in "ABCD" else ()
        if self.metric == "regex":
            return ()
        rng = random.Random(item.id)
        others = rng.sample(answers, min(len(answers), 4))
        wrong = [answer for answer in others if answer != item.answer][:3]
        if len(wrong) < 3:
            return ()
        choices = [item.answer, *wrong]
        rng.shuffle(choices)
        return tuple(choices)

    # --- what a teacher and a student are asked --------------------------------------------------

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the chat that asks a teacher; an item is never its own example."""
        return chat.ask(self._told, prompt, self._examples(prompt), item)

    @property
    def _told(self) -> str:
        return self.instruction

    def choice_messages(self, item: Item) -> list[Message]:
        """Return the chat that asks for one letter of four."""
        examples = [e for e in self._examples("default") if e.choices and e.id != item.id]
        turns = [(self._offer(e), "ABCD"[e.choices.index(e.answer)]) for e in examples]
        system = f"{self._told} Answer with one letter."
        return chat.turn_by_turn(system, turns, self._offer(item))

    def _offer(self, item: Item) -> str:
        if self._is_choice:
            return item.question
        lines = [f"{a}) {choice}" for a, choice in zip("ABCD", item.choices, strict=True)]
        return "\n".join([item.question, *lines])

    def _examples(self, prompt: str) -> list[Item]:
        return self._shown if chat.has_examples(prompt) else []

    @cached_property
    def _shown(self) -> list[Item]:
        return self.items("train", self.n_examples, seed=1)

    def example_answers(self, prompt: str) -> frozenset[str]:
        """Return the answers of the prompt's own examples."""
        return frozenset(example.answer for example in self._examples(prompt))

    def student_messages(self, item: Item) -> list[Message]:
        """Return what the student is asked: the bare question."""
        return [{"role": "user", "content": item.question}]

    def completion(self, item: Item) -> str:
        """Return the reasoning path, where there is one, and the answer."""
        if not item.rationale:
            return item.answer
        return f"{item.rationale}\n{chat.MARK} {item.answer}"

    def vocabulary(self) -> Symbols | None:
        """Return None: a tokenizer is trained on the corpus."""
        return None

    # --- reading and scoring ---------------------------------------------------------------------

    def parse(self, text: str) -> str | None:
        """Read the answer: behind `Answer:`, `####` or in a box, else in the last line."""
        return self._metric.read(text)

    def parse_choice(self, text: str) -> int | None:
        """Read the first letter A to D that stands alone."""
        found = next((m[1] for m in LETTER.finditer(text) if m[1] in "ABCD"), None)
        return "ABCD".index(found) if found else None

    def score(self, text: str, item: Item) -> Score:
        """Compare with the gold answer by the task's metric; F1 is over words."""
        answer = self.parse(text)
        if answer is None:
            return Score(0.0, 0.0, False)
        right = self._metric.compare(answer, item.answer) >= 1
        return Score(float(right), 1.0 if right else word_f1(answer, item.answer), True)

    def lookup(self, train: Sequence[Item], items: Sequence[Item]) -> list[str]:
        """Answer with the training question that shares most words."""
        if not train:
            return ["" for _ in items]
        places = nearest_by_words([i.question for i in train], [i.question for i in items])
        return [train[place].answer for place in places]
