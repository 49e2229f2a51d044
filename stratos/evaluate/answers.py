"""Asking: a model in a Hugging Face folder, or the planned teacher, on test items."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.context import Context
from stratos.evaluate.generate import complete
from stratos.tasks.base import Item, Score, Task
from stratos.teachers.asking import cached_ask, unread
from stratos.teachers.base import TOO_LONG, Question, Teacher
from stratos.teachers.expect import expect
from stratos.teachers.expert import chat

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Answers:
    """The answers of one model, scored, and what they took; all in the order of the items."""

    items: tuple[Item, ...]
    texts: tuple[str, ...]
    scores: tuple[Score, ...]
    tokens: tuple[int, ...]
    """Output tokens of each answer."""
    input_tokens: int
    seconds: float
    cpu_seconds: float


def ask_folder(
    task: Task,
    path: Path | str,
    items: Sequence[Item],
    *,
    max_new_tokens: int,
    batch_size: int,
    tick: Tick | None = None,
    from_hub: bool = False,
) -> Answers:
    """Ask the model in a Hugging Face folder as a student is asked, and score what it writes.

    Loading is not counted in the seconds. Weights are read from safetensors alone, and no code
    that a folder brings is run. A name of the hub is fetched only with `from_hub`.

    Raises:
        OSError: there is no such model.
        ValueError: it is no causal language model, or has no chat template.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # the stage has its own
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=not from_hub)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(
        path, dtype="auto", use_safetensors=True, local_files_only=not from_hub
    )
    model.to(device)
    started, cpu_started = time.perf_counter(), time.process_time()
    completions = complete(
        model,
        tokenizer,
        [task.student_messages(item) for item in items],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        tick=tick,
    )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    texts = tuple(completion.text for completion in completions)
    return Answers(
        items=tuple(items),
        texts=texts,
        scores=_scored(task, items, texts),
        tokens=tuple(completion.output_tokens for completion in completions),
        input_tokens=sum(completion.input_tokens for completion in completions),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def ask_teacher(
    task: Task,
    teacher: Teacher,
    prompt: str,
    items: Sequence[Item],
    *,
    max_tokens: int,
    context: Context,
    tick: Tick | None = None,
) -> Answers:
    """Ask a teacher with one of the task's prompts; answers that are in the cache cost nothing.

    Items that are longer than its context are left out, with a warning. Where the money ends, the
    answers up to there are returned, with a warning: the student is trained and paid for, and its
    scores are worth keeping. The seconds are those that the answers took when they were made,
    cached or not.
    """
    cpu_started = time.process_time()
    chats = [chat(task, item, prompt) for item in items]
    questions = [Question(asked, max_tokens) for asked in chats]
    expect(teacher, questions, context)
    answers = cached_ask(teacher, chats, max_tokens, context, tick=tick, cut=True)
    if told := unread(teacher, questions, answers):
        context.warn(told)
    read = [place for place, answer in enumerate(answers) if answer.finish != TOO_LONG]
    answers = [answers[place] for place in read]
    asked = tuple(items[place] for place in read)
    texts = tuple(answer.text for answer in answers)
    return Answers(
        items=asked,
        texts=texts,
        scores=_scored(task, asked, texts),
        tokens=tuple(answer.output_tokens for answer in answers),
        input_tokens=sum(answer.input_tokens for answer in answers),
        seconds=sum(answer.seconds for answer in answers),
        cpu_seconds=time.process_time() - cpu_started,
    )


def _scored(task: Task, items: Sequence[Item], texts: Sequence[str]) -> tuple[Score, ...]:
    return tuple(task.score(text, item) for text, item in zip(texts, items, strict=True))
