"""Knowledge alignment: the teacher answers training questions, and what is right is learnt.

For a task that the teacher covers. Rejection sampling: an answer is kept only if the task's
verifier finds it exactly right, in the teacher's own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stratos.config import Config
from stratos.context import Context
from stratos.errors import TeacherError
from stratos.records import Plan
from stratos.synthesize.strategy import Tally
from stratos.tasks.base import Item, Task
from stratos.teachers.asking import cached_ask, cost_usd
from stratos.teachers.base import Teacher

_QUESTIONS_PER_ROUND = 256
_BARE_ANSWER = 12
"""Characters that an answer may be longer than the gold one before it counts as reasoning."""


@dataclass(frozen=True)
class Alignment:
    """Items whose completion a teacher wrote and the task verified."""

    name: str = "alignment"
    """Name shown in the plan."""
    min_coverage: float = 0.3
    """Least share of validation items that a teacher must answer exactly to be learnt from."""
    n_items: int = 4096
    """Training questions that the teacher is asked."""
    n_samples: int = 1
    """Answers asked for per question until one is right: each with another prompt of the task."""
    max_tokens: int = 256
    """Longest answer of the teacher, in tokens."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.n_items, self.n_samples, self.max_tokens) < 1:
            raise ValueError("n_items, n_samples and max_tokens must be at least 1.")
        if not 0 <= self.min_coverage <= 1:
            raise ValueError("min_coverage must lie between 0 and 1.")

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield training items with the teacher's answers that are exactly right.

        Raises:
            TeacherError: the planned teacher is not among the configured ones, or fails.
        """
        teacher = _planned_teacher(config, plan)
        prompts = _prompts(config.task, plan)[: self.n_samples]
        items = config.task.items("train", self.n_items, config.seed)
        for start in range(0, len(items), _QUESTIONS_PER_ROUND):
            waiting = items[start : start + _QUESTIONS_PER_ROUND]
            for prompt in prompts:
                chats = [config.task.messages(item, prompt) for item in waiting]
                answers = cached_ask(teacher, chats, self.max_tokens, context, cut=True)
                tally.teacher_tokens += sum(a.input_tokens + a.output_tokens for a in answers)
                tally.usd += cost_usd(teacher.card(), answers)
                if len(answers) < len(chats):
                    tally.refused["not asked, for want of money"] += len(chats) - len(answers)
                wrong: list[Item] = []
                for item, answer in zip(waiting, answers, strict=False):
                    score = config.task.score(answer.text, item)
                    if score.exact == 1:
                        yield _in_its_words(config.task, item, answer.text)
                    else:
                        wrong.append(item)
                        tally.refused["wrong" if score.parsed else "not parsable"] += 1
                waiting = wrong


def _planned_teacher(config: Config, plan: Plan) -> Teacher:
    for teacher in config.teachers:
        if teacher.name == plan.teacher:
            return teacher
    known = ", ".join(teacher.name for teacher in config.teachers)
    raise TeacherError(
        f"The plan's teacher {plan.teacher} is not configured (there are: {known}). "
        "Give the command that made the plan, or plan again with stages=[probe,plan,synthesize]."
    )


def _prompts(task: Task, plan: Plan) -> list[str]:
    """Return the task's prompts, that of the plan first."""
    first = [prompt for prompt in task.prompts if prompt == plan.prompt]
    return first + [prompt for prompt in task.prompts if prompt != plan.prompt]


def _in_its_words(task: Task, item: Item, text: str) -> tuple[Item, str]:
    """Return an item with the teacher's text; a bare answer is put into canonical spelling."""
    text = text.strip()
    if len(text) <= len(item.answer) + _BARE_ANSWER:
        canonical = replace(item, rationale="", choices=())
        answer = item.answer
        return canonical, answer if task.score(answer, item).exact == 1 else text
    return replace(item, rationale=text, choices=()), text
