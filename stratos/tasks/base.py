"""The base class of tasks: questions with checkable answers in three fixed splits.

A task class is a dataclass that inherits from `Task` and whose fields are its YAML (`_target_`
names the class). It writes a name and four methods; all else has a default. It imports no torch and
no teacher.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

from stratos.core.reasons import Reason
from stratos.tasks.answers import LETTER, AnswerText, nearest_by_words
from stratos.tasks.words import NoTask, NotReadBack, TaskLacks, Unreadable

if TYPE_CHECKING:
    from stratos.records import LoggedVersus, Replay


Split = Literal["train", "validation", "test"]
FieldName: TypeAlias = str
"""Of a field of a line, as the file spells it."""
Message = dict[str, str]
"""A chat message: {"role": "system" | "user" | "assistant", "content": …}."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its gold answer."""

    id: str
    """Content hash of the question: two items with one id are one and the same."""
    slice: str
    question: str
    answer: str
    """Gold answer in the task's canonical spelling."""
    choices: tuple[str, ...] = ()
    """Four answers, one of them gold, in an order fixed by the item's id."""
    rationale: str = ""
    """Reasoning path that leads from the question to the answer, where one is known."""
    family: str = ""
    """Content hash of what a symmetry of the task cannot change ("": the id itself): splits are by
    family, so that no question of one split is a mirror of a question of another."""
    origin: str = ""
    """Where the task finds again what its score needs beside the gold answer ("": nothing)."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good one answer is."""

    exact: float
    f1: float
    parsed: bool
    """False if no answer could be read from the text."""
    labels: tuple[int, int] | None = None
    """Where a text has several labels: twice those that are right, and the labels of answer and
    gold answer together. Summed over items, their ratio is the micro-F1."""


class Answered(NamedTuple):
    """What a model wrote to an item."""

    item: Item
    text: str
    score: Score


class SideTest(Protocol):
    """A comparison of the student that a task adds to the scorecard."""

    @property
    def items(self) -> Sequence[Item]:
        """Items that the student is asked for it, beside the test items."""
        ...

    def compare(self, test: Sequence[Answered], beside: Sequence[Answered]) -> LoggedVersus:
        """Return the comparison by the student's answers.

        Args:
            test: its answers to the test items.
            beside: those to `items`.
        """
        ...


class Walks(Protocol):
    """Whole conversations of the test split, each of which is walked with a model's own answers."""

    @property
    def items(self) -> Sequence[Item]:
        """The test items that this reads."""
        ...

    def replay(self, answer: Callable[[Sequence[Item]], Sequence[str]]) -> Replay:
        """Return how far a model comes; `answer` gives its texts to items."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of the model in a conversation."""

    id: str
    """Hash of all that was said before it."""
    conversation: str
    """Hash that turns share of which one goes on from the other, or that are of one session."""
    request: str
    """What was said since the model's last turn."""
    answer: str
    kind: str | None
    """What it calls, or that it calls nothing; None where it cannot be read."""


class Turns(Protocol):
    """Tells turns of the model, each of which is an item: of a test, and of a log, alike."""

    def of_answers(self, answers: Iterable[tuple[str, str]]) -> list[Turn]:
        """Return the turns of questions with a model's texts, in their order."""
        ...

    def of_log(
        self, path: str, messages_key: str | None, answer_key: str | None
    ) -> tuple[list[Turn], int]:
        """Return the turns of a log, and how many rows could not be read.

        Args:
            path: file or URL.
            messages_key: field of the messages; None where the task's own is meant.
            answer_key: field of the answer, likewise.

        Raises:
            OSError: it cannot be read.
        """
        ...

    def typed(self, path: str, messages_key: str | None, answer_key: str | None) -> tuple[str, ...]:
        """Return the overrides of a task that learns a log, whose answers a teacher checks."""
        ...


@dataclass(frozen=True, slots=True)
class Symbols:
    """A task's own tokenizer: text is rewritten, split by a pattern, and looked up."""

    vocabulary: tuple[str, ...]
    """Every symbol, in the order of its token id."""
    pattern: str
    """Regular expression that matches one symbol; what it leaves out is unknown."""
    rewrites: tuple[tuple[str, str], ...] = ()
    """Regular expression to replacement text, applied in order before splitting."""
    macro: str = ""
    """Jinja macro `symbols(text)` that rewrites as `rewrites` do: the chat template has it, for
    engines that take template and vocabulary alone (GGUF)."""


class Task(ABC):
    """What every task class inherits from.

    `name`, `items`, `messages`, `parse` and `score` have to be written. Each other attribute and
    method says what its default is, and is written where the task knows better. Attributes may be
    fields of the dataclass, which the YAML then sets.
    """

    name: str = ""
    """Name shown in tables and written into records."""
    version: int = 1
    """Raised when questions, splits or the score change: results of another are not compared."""
    code_version: ClassVar[int] = 1
    """Raised when the code of the class makes other items, chats or scores of the same settings:
    records are made anew then."""
    metric: str = "exact"
    """What accuracy means here."""

    @property
    def metric_name(self) -> str:
        """What records call the metric."""
        return self.metric

    slices: tuple[str, ...] = ("main",)
    """Slices that are reported apart and together: `Item.slice` is one of them."""
    prompts: tuple[str, ...] = ("default",)
    """Names of the prompts that a teacher is tried with."""

    calls_tools: ClassVar[bool] = False
    """Whether answers are calls of tools that each question offers."""

    # --- what has to be written ------------------------------------------------------------------

    @abstractmethod
    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        """Return `n` items of one split (fewer if it has no more): the same for the same seed.

        A smaller `n` is a prefix of a larger one. Slices alternate unless one is named. Test items
        are asked for with the run's seed: a task that can make new ones draws others for another
        seed, one with a fixed split orders it.
        """

    @abstractmethod
    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the chat that asks a teacher for the answer, few-shot examples included."""

    @abstractmethod
    def parse(self, text: str) -> AnswerText | None:
        """Read the answer out of a model's text, in canonical spelling; None if there is none."""

    @abstractmethod
    def score(self, text: str, item: Item) -> Score:
        """Score a model's text against the gold answer."""

    def field_scores(self, item: Item, answer: str | None) -> Mapping[str, float]:
        """Return field to how right it is in an answer, as `parse` reads it; None is no answer.

        None at all, the default: then fields of JSON objects are compared as `exact` does.
        """
        return {}

    def answer_schema(self, item: Item) -> Mapping[str, Any] | None:
        """Return the JSON Schema that answers to an item match, for constrained decoding.

        None, the default, where answers are no JSON.
        """
        return None

    template_prefix: str = ""
    """Jinja before the student's chat template, which may write `messages` anew, such as with the
    `tools` of a request."""

    # --- what a model is asked -------------------------------------------------------------------

    @property
    def system_prompt(self) -> str:
        """What a model is told before a question; by default nothing.

        It is the system message of a student that starts from a model.
        """
        return ""

    def student_messages(self, item: Item) -> list[Message]:
        """Return the chat that the student is trained on and asked with: the bare question.

        `system_prompt` is not in it: the chat template of a student that starts from a model adds
        that (`stratos.tasks.chat.instruct`).
        """
        return [{"role": "user", "content": item.question}]

    def item_of_chat(self, chat: Sequence[Message]) -> Item | None:
        """Return the item that a chat asks, whose answer is not known; None where it is none.

        The chat is one as `student_messages` writes it: a served student is asked so, and what else
        is to be asked about the question is written from the item.
        """
        if len(chat) != 1 or chat[0]["role"] != "user":
            return None
        return Item("", self.slices[0], chat[0]["content"], "")

    def request_of(self, chat: Sequence[Message]) -> dict[str, Any] | None:
        """Return what a client of the API sends for a chat as `student_messages` writes it.

        None, the default, where the messages of the chat are all.
        """
        return None

    def chat_of_request(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]
    ) -> list[Message] | None:
        """Return the chat, as `student_messages` writes it, of a request that offers tools.

        The other way round than `request_of`. None, the default, where requests offer none.

        Args:
            messages: of the request, each with a text.
            tools: as the API has them.

        Raises:
            ValueError: the tools, or calls of the messages, cannot be read.
        """
        return None

    def refute(self, item: Item, text: str) -> Reason | None:
        """Return what is wrong with an answer, told without the right one; None where nothing is.

        By default that it cannot be read. A task that can check the steps of an answer, or hold it
        against the question, writes its own (`stratos.core.reasons.Because` takes any text).
        """
        return Unreadable() if self.parse(text) is None else None

    def completion(self, item: Item) -> str:
        """Return the text that the student learns to write, out of which `parse` reads the answer.

        By default the reasoning, where the item has one, and the answer on a line of its own.
        """
        return f"{item.rationale}\n{item.answer}" if item.rationale else item.answer

    def telling_apart(
        self, prompt: str, base: str, pairs: Sequence[tuple[str, str]]
    ) -> Task | None:
        """Return this task with one more prompt, which shows how labels differ.

        Args:
            prompt: its name.
            base: the prompt that it adds to.
            pairs: labels that are easily taken for each other.

        Returns:
            None, the default, of a task without labels.
        """
        return None

    def choice_messages(self, item: Item) -> list[Message]:
        """Return the chat that asks for one letter of A, B, C, D; only items with choices are."""
        lines = [f"{a}) {choice}" for a, choice in zip("ABCD", item.choices, strict=True)]
        system = f"{self.system_prompt} Answer with one letter.".lstrip()
        return [
            {"role": "system", "content": system},
            {"role": "user", "content": "\n".join([item.question, *lines])},
        ]

    def parse_choice(self, text: str) -> int | None:
        """Read the first letter A to D that stands alone, as an index; None if there is none."""
        letter = next((m[1] for m in LETTER.finditer(text) if m[1] in "ABCD"), None)
        return "ABCD".index(letter) if letter else None

    def example_answers(self, prompt: str) -> frozenset[str]:
        """Return the answers of the prompt's own examples, to tell an echo from an answer."""
        return frozenset()

    def answer_texts(self, prompt: str) -> Sequence[str]:
        """Return texts as long as good answers to a prompt, of no test item; they bound answers.

        By default none: the data do not tell how long good answers are.
        """
        return ()

    def vocabulary(self) -> Symbols | None:
        """Return the symbols of the task's own small tokenizer; None for byte-level BPE."""
        return None

    def typed(self, question: str) -> Item | None:
        """Return the item of a question that somebody typed, with its right answer.

        None, the default, where the task cannot work out the answer, or it is no such question.
        """
        return None

    # --- training items made answer first --------------------------------------------------------

    can_reverse: bool = False
    """True if the task can build a question and a reasoning path from an answer: `reverse`."""

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield up to `n` verified training items made answer first, with their reasoning path.

        Write this, or `drafts` and `made_of`: then items are made and verified on a whole cluster.
        """
        return map(self.made_of, self.drafts(n, seed))

    def drafts(self, n: int, seed: int = 0) -> Iterator[Any]:
        """Yield what the items of `reverse` are made of, in their order: it takes all chances."""
        return iter(())

    def made_of(self, draft: Any) -> Item:
        """Make the item of a draft: the same wherever that is done."""
        return draft

    @property
    def drawn_in_vain(self) -> Mapping[str, int]:
        """How many draws of the last `reverse` made no item, by reason."""
        return {}

    @property
    def never_drawn(self) -> Reason | None:
        """What the last `reverse` could make no item of, and why; None for nothing."""
        return None

    @property
    def has_drafts(self) -> bool:
        """Whether `reverse` gives what `made_of` makes of `drafts`.

        The class that writes `reverse` has to write them, too: a `reverse` that is written anew in
        a child may give other items than the drafts of its parent.
        """
        owner = vars(next(cls for cls in type(self).__mro__ if "reverse" in vars(cls)))
        return "drafts" in owner and "made_of" in owner

    @property
    def has_paths(self) -> bool:
        """Whether items of `reverse` bring the reasoning that leads to their answers."""
        return True

    @property
    def n_worded(self) -> int:
        """How many items of `reverse` can have a question in other words, at most."""
        return 0

    def wording(self, item: Item) -> list[Message] | None:
        """Return the chat that asks for the question of a made item in other words.

        None, the default, where it stands as it is.
        """
        return None

    def reworded(self, item: Item, text: str) -> Item | None:
        """Return an item with the question that a teacher wrote as `wording` asks for it.

        None where the text is no such question.
        """
        return replace(item, question=text)

    def verify(self, item: Item) -> Reason | None:
        """Check answer and reasoning path of an item; return what is wrong, or None.

        By default: whether the right answer is read back from the completion. Reasons of your own
        are a text in `stratos.core.reasons.Because`.
        """
        if self.score(self.completion(item), item).exact < 1:
            return NotReadBack(item.answer)
        return None

    def checks_steps(self, item: Item) -> bool:
        """Return whether `verify` looks at the steps of this reasoning, not only at its end.

        By default True for a task with a `verify` of its own.
        """
        return type(self).verify is not Task.verify

    def difficulty(self, item: Item) -> float:
        """Return how hard an item is, for `strategy.balance`: by default the length of its path.

        Of an item without a path, the length of its question.
        """
        return float(len(item.rationale or item.question))

    # --- what results are compared with ----------------------------------------------------------

    def chance(self, item: Item) -> float:
        """Return how often a random guess at an item is right: by default never."""
        return 0.0

    def lookup(self, train: Sequence[Item], items: Sequence[Item]) -> list[str]:
        """Answer each item with that of the nearest training item: the baseline of memory.

        By default the nearest is the one whose question shares most words, rare ones counting more.
        """
        if not train:
            return ["" for _ in items]
        places = nearest_by_words([i.question for i in train], [i.question for i in items])
        return [train[index].answer for index in places]

    def in_situation(self, train: Sequence[Item], items: Sequence[Item]) -> list[str] | None:
        """Answer each item as most training items in its situation are, such as after one call.

        None, the default, where a task tells no situations apart: `majority` is the same then.
        """
        return None

    def normal(self, answer: str) -> str:
        """Return a gold answer in a form that all of its spellings share that score alike."""
        return answer

    compares_words: bool = True
    """Whether a training item may share no 13 words in a row with a held-out question; else the
    questions are compared as a whole."""

    def own_words(self, question: str) -> str:
        """Return the part of a question that is compared with others: by default all of it.

        Leaks and near duplicates are told by it.
        """
        return question

    def answer_size(self, item: Item) -> int:
        """Return the size of an answer, as the corpus record counts them: by default characters."""
        return len(item.answer)

    def held_out(self) -> list[Item] | None:
        """Return every validation and test item, none of which is trained on.

        None, the default, for a task that cannot list them: then those that the run reads are.
        """
        return None

    def groups_of(self, items: Sequence[Item]) -> list[str]:
        """Return the group of each item: near duplicates of one another, or the item alone.

        Items of one group tend to be answered right together, which intervals count.
        """
        return [item.id for item in items]

    # --- items that come from files --------------------------------------------------------------

    has_labels: ClassVar[bool] = False
    """True if every answer is made of labels, which are `all_labels`."""

    @property
    def has_several_labels(self) -> bool:
        """Whether answers are sets of labels, as `stratos.tasks.label_sets` writes them."""
        return False

    @property
    def tests_other_rows(self) -> bool:
        """Whether the test is a file of its own, and no part of the rows."""
        return False

    @property
    def tests_other_wordings(self) -> bool:
        """Whether many rows are near duplicates, and the test has none of those that are learnt."""
        return False

    @property
    def has_objects(self) -> bool:
        """True if every answer is a JSON object, as far as the first ones tell."""
        return False

    has_rows: bool = False
    """True if the training items are the rows of a file: then `n_train` and `n_test` are written,
    and `items("train", n_train)` are all of them."""
    validation_share: float | None = None
    """Share of the rows that are validation items, where a key of the task sets it."""

    @property
    def n_train(self) -> int:
        """How many training rows there are; 0 without a file."""
        return 0

    @property
    def n_test(self) -> int:
        """How many test rows there are; 0 without a file."""
        return 0

    @property
    def is_here(self) -> bool:
        """Whether all files are on this machine, so that the check may read them: by default so."""
        return True

    @property
    def content_sha256(self) -> str | None:
        """Digest of all rows, wherever they lie: another one for other rows.

        None, the default: every file that the task's YAML names is hashed.
        """
        return None

    @property
    def n_made(self) -> int:
        """How many training items `reverse` makes beside the rows of a file, at most."""
        return 0

    def refusals(self) -> list[Reason]:
        """Return why nothing can be learnt or measured from the rows; nothing where it can."""
        return []

    @property
    def rows_name(self) -> str:
        """Name of the file that the rows are from, for the model card; "" where there is none."""
        return ""

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The answers that an item may have, where they are labels."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user wants to know of the rows, a line each; said before anything is asked."""
        return ()

    @property
    def complaints(self) -> tuple[Reason, ...]:
        """What is doubtful about the rows, one warning each; said before anything is asked."""
        return ()

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many lines of the files are not used, by reason."""
        return {}

    def lines_of(self, ids: Collection[str]) -> dict[str, str]:
        """Return where rows that are learnt stand in their file, by the ids of their items."""
        return {}

    @property
    def n_unanswered(self) -> int:
        """How many of these lines have no answer: by default none."""
        return 0

    @property
    def parts(self) -> tuple[Any, ...]:
        """Objects of the user's own that the task is made of: their code counts like the task's."""
        return ()

    # --- what a task brings beside its items ------------------------------------------------------

    def teachers(self) -> Sequence[Any]:
        """Return models that answer the task's requests today and are measured without asking.

        Each is a teacher whose class has `measure` (`Teacher.is_measured`). The plan compares
        students with the first that is reachable, also where the run has no such teacher. By
        default none.
        """
        return ()

    def side_test(self, items: Sequence[Item], seed: int = 0) -> SideTest | None:
        """Return a comparison of the student beside the baselines; None, the default, for none.

        Args:
            items: the test items that the student is asked.
            seed: of the run.
        """
        return None

    def conversations(self, seed: int = 0) -> Walks | None:
        """Return whole conversations of the test split; None, the default, where there are none.

        Args:
            seed: of the run.
        """
        return None

    def turns(self) -> Turns | None:
        """Return what tells the turns of conversations; None, the default, where items are none."""
        return None

    # --- rows without an answer, which a teacher labels ------------------------------------------

    @property
    def unlabelled_field(self) -> FieldName | None:
        """Field of the question in a file of `task.unlabelled_path`; None where it takes none."""
        return None

    @property
    def takes_unlabelled(self) -> bool:
        """Whether rows without an answer are named, which need not be read to tell."""
        return False

    @property
    def n_unlabelled(self) -> int:
        """How many rows without an answer there are: by default none."""
        return 0

    @property
    def how_to_label(self) -> str:
        """What to type so that there are some, as a sentence goes on."""
        return "Name a file of them with task.unlabelled_path=<file>"

    def unlabelled(self, n: int, seed: int = 0) -> list[Item]:
        """Return up to `n` of them, the same for the same seed; their answer is ""."""
        return []

    def labelled(self, item: Item, text: str) -> Item | None:
        """Return an item with the answer that a model's text gives it; None where it gives none."""
        answer = self.parse(text)
        return None if answer is None else replace(item, answer=answer, rationale="", choices=())

    def as_row(self, item: Item, answer: str) -> dict[str, str]:
        """Return an item as a line of the task's file, with another answer."""
        return {"question": item.question, "answer": answer}


def why_no_task(cls: type) -> Reason | None:
    """Return why a class is no task that a run can work on; None if it is one."""
    needed = tuple(name for name in vars(Task) if name in Task.__abstractmethods__)
    if not issubclass(cls, Task):
        return NoTask(needed)
    lacking = tuple(name for name in needed if name in cls.__abstractmethods__)
    return TaskLacks(lacking) if lacking else None


_ALL = 1_000_000_000


def slices_of(task: Task, split: Split, n: int, seed: int = 0) -> dict[str, str]:
    """Return the slice of each item of a split by its id; of a task without rows, of `n` items."""
    items = task.items(split, _ALL if task.has_rows else n, seed)
    return {item.id: item.slice for item in items}


def shares_of_slices(task: Task) -> dict[str, float]:
    """Return the share of each slice among the validation rows: `Task.items` alternates them.

    Rows are taken to come in the shares of requests, and are split alike in every slice. Empty for
    a task of one slice, and for one without rows: how often its slices are asked is not known.
    """
    if not task.has_rows or len(task.slices) < 2:
        return {}
    counts = Counter(slices_of(task, "validation", _ALL).values())
    return {name: n / counts.total() for name, n in sorted(counts.items())}
