"""Set up a training: rows, Lightning module, and the teacher's signal."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from stratos.config import Config, StudentConfig
from stratos.core.by_name import find
from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.distill.data import Encoded, PackedLoader
from stratos.distill.module import TextModule
from stratos.distill.recipe import Length, Rates
from stratos.records import Plan
from stratos.tasks.base import Item
from stratos.teachers.base import SignalKind
from stratos.teachers.prompting import chat, prompting


@dataclass(frozen=True)
class TrainingSetup:
    """A module and the rows that it is trained on."""

    module: TextModule
    loader: PackedLoader


@contextmanager
def open_training(
    config: Config,
    plan: Plan,
    model: Any,
    tokenizer: Any,
    data: Encoded,
    questions: list[str],
    length: Length,
    rates: Rates,
    context: Context,
    rank: int = 0,
    n_ranks: int = 1,
) -> Iterator[TrainingSetup]:
    """Open what the planned strategy trains with; the teacher is closed at the end.

    Args:
        config: the run.
        plan: names the strategy and the teacher.
        model: the student.
        tokenizer: of the student.
        data: the corpus in the student's tokens.
        questions: of the corpus, by item.
        length: how long to train.
        rates: learning rates.
        context: of the stage.
        rank: of this process.
        n_ranks: processes that train together.
    """
    trainer = config.trainer
    shared: tuple[Any, ...] = (data, length.batch_tokens, length.tokens, config.seed)
    parts: dict[str, Any] = {"accumulate": trainer.accumulate, "rank": rank, "n_ranks": n_ranks}
    loader = PackedLoader(*shared, **parts)
    strategy = find(config.strategies, plan.strategy)
    signal = None if strategy is None else strategy.signal
    if strategy is None or signal is None:
        yield TrainingSetup(TextModule(model, trainer, loader.n_steps, rates), loader)
        return
    from stratos.distill.logit_module import LogitModule
    from stratos.distill.on_policy import OnPolicyLoader, writer
    from stratos.distill.signal import open_source

    teacher = find(config.teachers, plan.teacher)
    if teacher is None:
        raise TeacherError(f"The plan's teacher {plan.teacher} is not configured.")
    prompts = _teacher_prompts(config, plan, teacher, data, questions)
    # Processes that train together would each decide for themselves, by what the others have spent.
    is_forced = len(config.strategies) == 1 or n_ranks > 1
    source = open_source(teacher, signal, tokenizer, data, context, prompts, is_forced)
    try:
        if source.kind == "text":
            yield TrainingSetup(TextModule(model, trainer, loader.n_steps, rates), loader)
            return
        module = LogitModule(
            model,
            trainer,
            loader.n_steps,
            source,
            signal.to_minimize(),
            signal.hidden_match,
            rates,
        )
        if (on_policy := strategy.on_policy) is not None:
            loader = OnPolicyLoader(
                *shared,
                **parts,
                write=writer(
                    module.learner,
                    tokenizer,
                    on_policy.max_new_tokens or int((data.lengths - data.prompt_lengths).max()),
                    on_policy.temperature,
                    config.evaluate.batch_size,
                    config.evaluate.decoder,
                ),
                lmbda=on_policy.share,
                buffer_steps=on_policy.buffer_steps,
            )
        yield TrainingSetup(module, loader)
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
    strategy = find(config.strategies, plan.strategy)
    signal = None if strategy is None else strategy.signal
    if signal is None or signal.reads_any_tokens:
        return None
    if student.path is not None or config.task.vocabulary() is not None:
        return None
    teacher = find(config.teachers, plan.teacher)
    if teacher is None or teacher.signal is not SignalKind.WEIGHTS:
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
    tokenizer = teacher.tokenizer()
    if tokenizer is None:
        return None
    prompt = plan.prompt or prompting(teacher, config.task).prompts[0]
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
