"""Choose the prompt for a teacher: few-shot, or the student's prompt for a distilled expert.

A bundle of an earlier run has learnt to answer the bare question, at whatever length its reasoning
needs. Shown a teacher's few-shot prompts, and cut after a line, it would look blind. So where its
model card names the task at hand, it is asked as its user would ask it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from stratos.config import Config
from stratos.records import Probe
from stratos.tasks.base import Item, Message, Task
from stratos.teachers.answer_limit import AnswerLimit, data_limit, limit_of
from stratos.teachers.base import Teacher

_N_TEXTS = 64
"""Completions from which the length of an expert's answers is told."""
STUDENT = "student"
"""Name of the prompt that a student is trained on and asked with."""


@dataclass(frozen=True)
class Prompting:
    """The prompts that a teacher is tried with, and what goes with them."""

    task: Task
    prompts: tuple[str, ...]
    max_tokens: int | None = None
    """Longest answer that the teacher was made for, in tokens; None leaves it to whoever asks."""

    @property
    def is_expert(self) -> bool:
        """Return whether the teacher was made for this very task."""
        return self.prompts == (STUDENT,)

    def limit(
        self, prompt: str, max_tokens: int | None = None, key: str = "probe.max_tokens"
    ) -> AnswerLimit:
        """Return the longest answer to a prompt, before any was seen.

        Args:
            prompt: of the task, or the student's.
            max_tokens: what the user names; None leaves it to the teacher and the data.
            key: of the config, where it is named.
        """
        if max_tokens is not None:
            return AnswerLimit(max_tokens, f"{key}={max_tokens}", is_fixed=True)
        if self.max_tokens is not None:
            return AnswerLimit(
                self.max_tokens, "max_new_tokens of its generation config", is_fixed=True
            )
        if prompt == STUDENT:
            items = self.task.items("validation", _N_TEXTS)
            return limit_of([self.task.completion(item) for item in items])
        return data_limit(self.task, prompt)

    def example_answers(self, prompt: str) -> frozenset[str]:
        """Return the answers of the prompt's own examples."""
        return frozenset() if prompt == STUDENT else self.task.example_answers(prompt)


def prompting(teacher: Teacher, task: Task) -> Prompting:
    """Return how a teacher is asked about a task."""
    folder = teacher.folder()
    if folder is None or made_for(folder) != task.name:
        return Prompting(task, task.prompts)
    return Prompting(task, (STUDENT,), _max_new_tokens(folder))


def chat(task: Task, item: Item, prompt: str) -> list[Message]:
    """Return the chat that asks about an item with one of the task's prompts, or the student's."""
    return task.student_messages(item) if prompt == STUDENT else task.messages(item, prompt)


def made_for(folder: Path) -> str | None:
    """Return the task that the model of a folder was distilled for, None where its card says none.

    The card is that of `stratos.deploy.card`: the first result of its model index names the task.
    """
    import yaml

    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        front = yaml.safe_load(text.split("---\n", 2)[1])
        if "stratos" not in front["tags"]:
            return None
        return str(front["model-index"][0]["results"][0]["dataset"]["type"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return None


def _max_new_tokens(folder: Path) -> int | None:
    try:
        settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        return int(settings["max_new_tokens"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def with_repaired_prompts(config: Config, probe: Probe | None) -> Config:
    """Return the config whose task has the prompts that the probe repaired and took."""
    task = config.task
    for teacher in probe.teachers if probe is not None else ():
        if (
            (repair := teacher.repair) is not None
            and repair.is_taken
            and repair.prompt not in task.prompts
        ):
            task = task.telling_apart(repair.prompt, repair.base, repair.pairs) or task
    return config if task is config.task else replace(config, task=task)
