"""The student before its training, its corpus in tokens, and what its module learns from."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from stratos.config import Config, StudentConfig
from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.core.values import find, named
from stratos.distill.data import (
    Encoded,
    OnPolicyLoader,
    PackedLoader,
    conversations_in,
    encode,
    writer,
)
from stratos.distill.module import StudentModule
from stratos.distill.objectives import Objective, check_head
from stratos.distill.packed import TOLERANCE, check_packs, packs
from stratos.distill.signal.local import LocalSource, Reader
from stratos.distill.signal.source import open_source
from stratos.distill.signal_config import SignalConfig
from stratos.distill.tokenizer import (
    add_adapters,
    checkpoint_blocks,
    make_student,
    save_student,
)
from stratos.distill.trainer import Length, Rates, check_adapter, loses_layers
from stratos.distill.words import RowsTooLong
from stratos.models.pretrained.depth import Depth, check_layers
from stratos.models.pretrained.vocabulary import (
    Vocabulary,
    cut_model,
    cut_tokenizer,
    model_vocabulary,
)
from stratos.models.students import ready
from stratos.records import Corpus, Plan, corpus_rows
from stratos.tasks.base import Item, Message, Task
from stratos.tasks.chat import prefix_template
from stratos.teachers.base import SignalKind, Teacher
from stratos.teachers.prompting import chat, prompting


@dataclass(frozen=True)
class Ready:
    """The student before its training, and its corpus in tokens."""

    chosen: StudentConfig
    model: Any
    tokenizer: Any
    data: Any
    questions: list[str]
    labels: tuple[str, ...] = ()
    """Those that it learns to answer with, where each completion is one; else none."""
    vocabulary: Vocabulary | None = None
    """What stays of its own; None for the whole."""
    depth: Depth | None = None
    """Which of the layers of the whole one stay; None for all."""
    whole: Any = None
    """The same student with all layers, trained, in evaluation mode, whose distribution it learns
    beside the text; None where it has them itself."""


def prepare(config: Config, plan: Plan, corpus: Corpus, context: Context, untouched: bool) -> Ready:
    """Make the student and tokenize the corpus; write its untouched twin if wanted."""
    settings = config.trainer
    chosen = named(config.students, plan.student)
    check_adapter(settings, [chosen])
    chosen = ready(chosen, context.cache_dir)
    instruction = config.task.system_prompt
    rows = list(corpus_rows(corpus.path))
    questions = [row.question for row in rows]
    completions = [row.completion for row in rows]
    context.tick(0, 1, f"loading {chosen.name}, and tokenizing")
    strategy = find(config.strategies, plan.strategy)
    signal = None if strategy is None else strategy.signal
    shared = shared_tokens(signal, find(config.teachers, plan.teacher), chosen, config.task)
    chats = [config.task.student_messages(Item("", "", question, "")) for question in questions]
    model, tokenizer = make_student(
        chosen,
        config.task.vocabulary(),
        chain((message["content"] for chat in chats for message in chat), completions),
        config.seed,
        in_4_bits=settings.adapter == "qlora",
        tokenizer=None if shared is None else shared.tokenizer,
        instruction=instruction,
    )
    is_rounded = settings.adapter == "qlora"  # 4 bits round what they compute
    if chosen.path is not None and not is_rounded:
        check_packs(chosen.name, model)
    if chosen.path is not None:
        check_head(chosen.name, model)
    if loses_layers(settings, chosen):
        check_layers(chosen.name, model, float(chosen.fit.depth))
    # Compiled, each length of a beginning would be another graph.
    tolerance = 0.05 if is_rounded else TOLERANCE
    shares = not settings.compile and packs(model, True, tolerance, evaluates=not is_rounded)
    if config.task.template_prefix:
        prefix_template(tokenizer, config.task.template_prefix)
    if shared is not None:
        # The teacher may end its answers with another token than its texts.
        model.generation_config.eos_token_id = list(shared.end_ids)
    if shared is not None and len(tokenizer) > chosen.vocab_size:
        n_embedded = len(tokenizer) * chosen.hidden_size
        context.warn(
            f"Student {chosen.name} uses the {len(tokenizer):,} tokens of its teacher, but was "
            f"planned with {chosen.vocab_size:,} (student.vocab_size), which is a smaller model: "
            f"{n_embedded:,} of its {model.num_parameters():,} parameters are embeddings."
        )
    if untouched:
        whole = model, tokenizer
        if settings.adapter == "qlora":
            whole = make_student(chosen, None, [], config.seed, instruction=instruction)
        save_student(*whole, context.run_dir / "distill" / "untouched")
    vocabulary = None
    if chosen.path is not None and chosen.fit.share is not None:
        texts = _task_texts(config, tokenizer, chats, completions)
        vocabulary = model_vocabulary(model, tokenizer, texts, chosen.fit.share)
        cut_model(model, vocabulary)
        tokenizer = cut_tokenizer(tokenizer, vocabulary)
    labels = config.task.all_labels if set(completions) <= {*config.task.all_labels} else ()
    data, n_too_long = encode(tokenizer, chats, completions, chosen.context_length)
    conversations = conversations_in(data, [row.family for row in rows]) if shares else None
    data = replace(data, shares=shares, conversations=conversations)
    if n_too_long:
        context.warn(str(RowsTooLong(n_too_long)))
    model = add_adapters(model, settings, config.seed)
    if settings.checkpointing:
        checkpoint_blocks(model, True)
    return Ready(chosen, model, tokenizer, data, questions, labels, vocabulary)


def _task_texts(
    config: Config, tokenizer: Any, chats: Sequence[list[Message]], completions: Sequence[str]
) -> list[str]:
    """Return what a student of a task reads and writes; never a test row."""
    task = config.task
    items = task.items("validation", config.callbacks.n_validation_read)
    prompts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in (*chats, *map(task.student_messages, items))
    ]
    answers = (*completions, *map(task.completion, items), *task.all_labels)
    return [*prompts, *answers, *(text + tokenizer.eos_token for text in answers)]


_OF_STATES = 1.0
"""Weight of the hidden states of the whole student, where one without some layers learns from it:
set by hand."""


@contextmanager
def open_training(
    config: Config,
    plan: Plan,
    ready: Ready,
    length: Length,
    rates: Rates,
    context: Context,
    rank: int,
    n_ranks: int,
) -> Iterator[tuple[StudentModule, PackedLoader]]:
    """Open a module and the rows that it is trained on; the teacher is closed at the end.

    Args:
        config: the run.
        plan: names the strategy and the teacher.
        ready: the student, and the corpus in its tokens.
        length: how long to train.
        rates: learning rates.
        context: of the stage.
        rank: of this process.
        n_ranks: processes that train together.
    """
    trainer, data = config.trainer, ready.data
    shared: tuple[Any, ...] = (data, length.batch_tokens, length.tokens, config.seed)
    parts: dict[str, Any] = {"accumulate": trainer.accumulate, "rank": rank, "n_ranks": n_ranks}
    loader = PackedLoader(*shared, **parts)
    made = partial(StudentModule, ready.model, trainer, loader.n_steps, rates=rates)
    if ready.whole is not None:
        assert ready.depth is not None, "it has lost layers of the whole one"
        longest = int(data.lengths.max())
        reader = Reader(ready.whole, len(ready.tokenizer), longest, keeps_layers=True)
        objective, indices = Objective(cross_entropy=0.5), ready.depth.layers
        yield made(LocalSource(reader), objective, _OF_STATES, layer_indices=indices), loader
        return
    strategy = find(config.strategies, plan.strategy)
    signal = None if strategy is None else strategy.signal
    if strategy is None or signal is None:
        yield made(), loader
        return
    teacher = find(config.teachers, plan.teacher)
    if teacher is None:
        raise TeacherError(f"The plan's teacher {plan.teacher} is not configured.")
    prompts = _teacher_prompts(config.task, plan.prompt, teacher, data, ready.questions)
    # Processes that train together would each decide for themselves, by what the others have spent.
    is_forced = len(config.strategies) == 1 or n_ranks > 1
    source = open_source(teacher, signal, ready.tokenizer, data, context, prompts, is_forced)
    try:
        if source.kind == "text":
            yield made(), loader
            return
        objective = signal.to_minimize()
        module = made(source, objective, signal.hidden_match)
        if (on_policy := strategy.on_policy) is not None:
            loader = OnPolicyLoader(
                *shared,
                **parts,
                write=writer(
                    module.learner,
                    ready.tokenizer,
                    on_policy.max_new_tokens or int((data.lengths - data.prompt_lengths).max()),
                    on_policy.temperature,
                    config.evaluate.batch_size,
                    config.evaluate.decoder,
                ),
                lmbda=on_policy.share,
                buffer_steps=on_policy.buffer_steps,
            )
        yield module, loader
    finally:
        source.close()


@dataclass(frozen=True)
class Tokens:
    """A tokenizer, and the ids at which a text in it ends."""

    tokenizer: Any
    end_ids: tuple[int, ...]


def shared_tokens(
    signal: SignalConfig | None, teacher: Teacher | None, student: StudentConfig, task: Task
) -> Tokens | None:
    """Return the teacher's tokenizer where the student is to read in it, else None.

    A student of random weights, for a task without symbols of its own, may have any tokenizer. It
    takes that of a teacher whose distribution it is to learn token by token.
    """
    if signal is None or signal.reads_any_tokens:
        return None
    if student.path is not None or task.vocabulary() is not None:
        return None
    if teacher is None or teacher.signal is not SignalKind.WEIGHTS:
        return None
    tokenizer = copy.deepcopy(teacher.tokenizer())
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Tokens(tokenizer, teacher.end_ids())


def _teacher_prompts(
    task: Task, prompt: str, teacher: Any, data: Encoded, questions: list[str]
) -> list[np.ndarray] | None:
    """Return the prompts under which the teacher answered, None where they are the student's.

    A teacher that was shown examples is to score the answers that it gave with them in view.
    """
    tokenizer = teacher.tokenizer()
    if tokenizer is None:
        return None
    prompt = prompt or prompting(teacher, task).prompts[0]
    items = range(len(questions)) if data.items is None else data.items
    chats = [chat(task, Item("", "", questions[item], ""), prompt) for item in items]
    texts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for messages in chats
    ]
    prompts = [
        np.array(ids, np.int64) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]
    ]
    same = all(np.array_equal(ids, data.prompt(index)) for index, ids in enumerate(prompts))
    return None if same else prompts
