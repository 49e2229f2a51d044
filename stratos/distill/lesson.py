"""What a strategy trains with: the rows, the Lightning module, and the teacher's signal."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from stratos.config import Config, StudentConfig
from stratos.context import Context
from stratos.distill.data import Encoded, PackedLoader
from stratos.distill.module import TextModule
from stratos.distill.wanted import Wanted
from stratos.errors import TeacherError
from stratos.records import Plan
from stratos.tasks.base import Item
from stratos.teachers.expert import chat, manner
from stratos.teachers.huggingface import HuggingFaceTeacher


@dataclass(frozen=True)
class Lesson:
    """A module and the rows that it is trained on."""

    module: TextModule
    loader: PackedLoader


@contextmanager
def open_lesson(
    config: Config,
    plan: Plan,
    model: Any,
    tokenizer: Any,
    data: Encoded,
    questions: list[str],
    max_tokens: int,
    context: Context,
    rank: int = 0,
    n_ranks: int = 1,
) -> Iterator[Lesson]:
    """Open what the planned strategy trains with; the teacher is closed at the end.

    Args:
        config: the run.
        plan: names the strategy and the teacher.
        model: the student.
        tokenizer: of the student.
        data: the corpus in the student's tokens.
        questions: of the corpus, by item.
        max_tokens: tokens to train on.
        context: of the stage.
        rank: of this process.
        n_ranks: processes that train together.
    """
    trainer = config.trainer
    shared: tuple[Any, ...] = (data, trainer.batch_tokens, max_tokens, config.seed)
    parts: dict[str, Any] = {"accumulate": trainer.accumulate, "rank": rank, "n_ranks": n_ranks}
    loader = PackedLoader(*shared, **parts)
    strategy = next((s for s in config.strategies if s.name == plan.strategy), None)
    if getattr(strategy, "needs", "text") != "logits":
        yield Lesson(TextModule(model, trainer, loader.n_steps), loader)
        return
    from stratos.distill.logit_module import LogitModule
    from stratos.distill.on_policy import OnPolicyLoader, writer
    from stratos.distill.signal import open_source

    assert strategy is not None
    teacher = next((t for t in config.teachers if t.name == plan.teacher), None)
    if teacher is None:
        raise TeacherError(f"The plan's teacher {plan.teacher} is not configured.")
    prompts = _teacher_prompts(config, plan, teacher, data, questions)
    # Processes that train together would each decide for themselves, by what the others have spent.
    is_forced = len(config.strategies) == 1 or n_ranks > 1
    source = open_source(teacher, strategy, tokenizer, data, context, prompts, is_forced)
    try:
        if source.kind == "text":
            yield Lesson(TextModule(model, trainer, loader.n_steps), loader)
            return
        module = LogitModule(
            model,
            trainer,
            loader.n_steps,
            source,
            strategy.to_minimize(),
            strategy.hidden_match,
        )
        if hasattr(strategy, "lmbda"):
            loader = OnPolicyLoader(
                *shared,
                **parts,
                write=writer(
                    module.learner,
                    tokenizer,
                    strategy.max_new_tokens or int((data.lengths - data.prompt_lengths).max()),
                    strategy.sampling_temperature,
                    config.evaluate.batch_size,
                ),
                lmbda=strategy.lmbda,
                buffer_steps=strategy.buffer_steps,
            )
        yield Lesson(module, loader)
    finally:
        source.close()


@dataclass(frozen=True)
class Tokens:
    """A tokenizer, and the ids at which a text in it ends."""

    tokenizer: Any
    end_ids: tuple[int, ...]


def shared_tokens(config: Config, plan: Plan, student: StudentConfig) -> Tokens | None:
    """Return the teacher's tokenizer where the student is to read in it, else None.

    A student of random weights, for a task without symbols of its own, may have any tokenizer. It
    takes that of a teacher whose distribution it is to learn token by token.

    Args:
        config: the run.
        plan: names the strategy and the teacher.
        student: the planned one.
    """
    strategy = next((s for s in config.strategies if s.name == plan.strategy), None)
    if getattr(strategy, "needs", "text") != "logits":
        return None
    if Wanted.of(strategy).reads_any_tokens:
        return None
    if student.path is not None or config.task.vocabulary() is not None:
        return None
    teacher = next((t for t in config.teachers if t.name == plan.teacher), None)
    if not isinstance(teacher, HuggingFaceTeacher):
        return None
    tokenizer = copy.deepcopy(teacher.tokenizer())
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Tokens(tokenizer, teacher.end_ids())


def _teacher_prompts(
    config: Config, plan: Plan, teacher: Any, data: Encoded, questions: list[str]
) -> list[np.ndarray] | None:
    """Return the prompts under which the teacher answered, None where they are the student's.

    A teacher that was shown examples is to score the answers that it gave with them in view.
    """
    if not hasattr(teacher, "tokenizer"):
        return None
    tokenizer = teacher.tokenizer()
    prompt = plan.prompt or manner(teacher, config.task).prompts[0]
    items = range(len(questions)) if data.items is None else data.items
    chats = [chat(config.task, Item("", "", questions[item], ""), prompt) for item in items]
    texts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for messages in chats
    ]
    prompts = [
        np.array(ids, np.int64) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]
    ]
    same = all(np.array_equal(ids, data.prompt(place)) for place, ids in enumerate(prompts))
    return None if same else prompts
