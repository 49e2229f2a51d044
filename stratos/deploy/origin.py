"""The run that made a bundle: its task, which checks answers, and its teacher, to be asked beside.

A bundle that was copied away from its run has neither; its known answers are in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from stratos.core.errors import StratosError
from stratos.core.names import named
from stratos.deploy.manifest import read_known
from stratos.evaluate.answer_files import answers_path, read_answers
from stratos.records import Plan, Probe, load
from stratos.tasks.base import Item, Message, Task
from stratos.teachers.asking import cost_usd
from stratos.teachers.base import Teacher
from stratos.teachers.call_budget import price
from stratos.teachers.prompting import chat, prompting, with_repaired_prompts

MOST_EXAMPLES = 50
"""Test items that the page offers to ask."""


@dataclass(frozen=True)
class Example:
    """A test item that a user may ask."""

    question: str
    gold: str


@dataclass(frozen=True)
class Checked:
    """What can be told of an answer to a question that somebody typed."""

    answer: str | None
    """What the task reads out of the text; None where it reads nothing, or there is no task."""
    gold: str | None
    """Right answer; None where nobody knows it."""
    is_right: bool | None
    """None where it cannot be told."""


@dataclass(frozen=True)
class Beside:
    """A teacher's answer."""

    text: str
    checked: Checked
    usd: float
    seconds: float


@dataclass(frozen=True)
class Origin:
    """A bundle with what is known of it."""

    bundle: Path
    examples: tuple[Example, ...]
    task: Task | None = None
    teacher: Teacher | None = None
    prompt: str = ""
    """With which the teacher is asked."""
    max_tokens: int = 0
    """Of the teacher's answer."""
    why_not: str = ""
    """Why there is no task or no teacher."""

    def messages(self, question: str) -> list[Message]:
        """Return the chat that the student is asked with."""
        if self.task is not None:
            return self.task.student_messages(self._item(question))
        return [{"role": "user", "content": question}]

    def check(self, question: str, text: str) -> Checked:
        """Tell whether a text answers a question rightly, where that is known."""
        item = self._item(question)
        gold = item.answer or None
        if self.task is None:
            return Checked(None, gold, None)
        is_right = None if gold is None else self.task.score(text, item).exact >= 1.0
        return Checked(self.task.parse(text), gold, is_right)

    def ask_teacher(self, question: str) -> Beside:
        """Ask the teacher of the run, with the prompt that its probe found best.

        Raises:
            StratosError: there is none, or it does not answer.
        """
        if self.task is None or self.teacher is None:
            raise StratosError(self.why_not or "This student has no teacher that can be asked.")
        asked = chat(self.task, self._item(question), self.prompt)
        (answer,) = self.teacher.ask([asked], self.max_tokens)
        return Beside(
            answer.text,
            self.check(question, answer.text),
            cost_usd(self.teacher.card(), [answer]),
            answer.seconds,
        )

    @property
    def is_teacher_free(self) -> bool:
        """Whether the teacher's answers cost nothing."""
        return self.teacher is None or not price(self.teacher.card(), 1, 1)

    def _item(self, question: str) -> Item:
        """Return the item of a question; its answer is "" where nobody knows it."""
        gold = next((one.gold for one in self.examples if one.question == question), "")
        found = None if gold or self.task is None else self.task.typed(question)
        return found or Item("", "", question, gold)


def origin_of(bundle: Path) -> Origin:
    """Return what is known of a bundle: of a run's own bundle its task and teacher as well.

    Raises:
        StratosError: the known answers of the bundle are damaged.
    """
    known = [Example(one.messages[-1]["content"], one.gold) for one in read_known(bundle)]
    run_dir = bundle.parent
    if bundle.name != "bundle" or not (run_dir / ".hydra" / "config.yaml").is_file():
        why = "The bundle lies in no folder of a run, so that nothing is known of its task."
        return Origin(bundle, tuple(known), why_not=why)
    try:
        return _of_run(bundle, run_dir, known)
    except StratosError as error:
        return Origin(bundle, tuple(known), why_not=str(error))


def _of_run(bundle: Path, run_dir: Path, known: list[Example]) -> Origin:
    from stratos.run.stored_config import config_of

    config = config_of(run_dir)
    if answers_path(run_dir).is_file():
        answers = read_answers(run_dir)[:MOST_EXAMPLES]
        known = [Example(one.question, one.gold) for one in answers]
    task, examples = config.task, tuple(known)
    try:
        plan = load(run_dir / "plan.json", None, Plan)
        probe = load(run_dir / "probe.json", None, Probe)
        if plan is None or probe is None:
            raise StratosError(f"{run_dir} has no plan, so that it names no teacher.")
        teacher = named(config.teachers, plan.teacher)
        probed = probe.of_teacher(plan.teacher)
    except (KeyError, msgspec.DecodeError):
        return Origin(bundle, examples, task, why_not="The teacher of this student is not known.")
    if (why := teacher.unreachable()) is not None:
        return Origin(bundle, examples, task, why_not=f"{teacher.name} cannot be asked: {why}")
    task = with_repaired_prompts(config, probe).task
    limit = prompting(teacher, task).limit(probed.prompt, config.probe.max_tokens)
    most = limit.tokens if limit.is_fixed else probed.max_tokens or limit.tokens
    return Origin(bundle, examples, task, teacher, probed.prompt, most)
