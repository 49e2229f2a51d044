"""What a plan asks of a teacher: how many answers, and how many tokens they take.

The evaluation's answers are as long as the probe saw them. So are those of alignment, unless a
declared complexity says otherwise. Injection asks for none, unless the teacher writes the
reasoning (`strategy.rationale`): that is a longer chat with a longer answer, and where the task
cannot check its steps, a second chat that reads it. Each is counted once; what is written again
comes on top and ends where the money does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stratos.config import Config
from stratos.estimate import Workload
from stratos.records import TeacherProbe

BYTES_PER_TOKEN = 4.0
"""Bytes of text that a token stands for: what a data set weighs on its way."""
_SHARE_OF_LIMIT = 0.5
"""How much of the longest answer a reasoning takes, where nothing tells."""


@dataclass(frozen=True)
class Asked:
    """Answers of one teacher, with what one of them takes on average."""

    n_answers: int
    work: Workload
    longest: float
    """Tokens of the longest kind, prompt and answer together: what memory has to hold."""
    dataset_gb: float
    """What the training reads of it."""


def asked_of(config: Config, teacher: TeacherProbe, strategy: Any) -> Asked:
    """Return what a teacher is asked under a strategy, evaluation included.

    Args:
        config: the run.
        teacher: what the probe saw.
        strategy: the configured one.
    """
    n_evaluated, n_taught = config.evaluate.n_teacher_items, _n_alignment(config, strategy)
    declared = config.complexity.path_tokens
    answer = _of_probe(teacher)
    if n_taught and declared:
        answer = Workload(answer.prompt_tokens, declared)
    parts = [(n_evaluated + n_taught, answer)]
    n_read_by_training = n_taught * answer.context
    writing = getattr(strategy, "writing", None)
    sizes = None
    if writing is not None and config.task.can_reverse:
        sizes = writing(config.task)
    if sizes is not None:
        per_byte = _tokens_per_byte(config, teacher)
        written = declared or _SHARE_OF_LIMIT * sizes.max_tokens
        if not declared and sizes.path_bytes:
            written = min(sizes.max_tokens, per_byte * sizes.path_bytes)
        request = Workload(per_byte * sizes.request_bytes, written)
        reading = Workload(
            per_byte * sizes.reading_bytes + written, per_byte * sizes.conclusion_bytes
        )
        parts += [(sizes.n_items, request), (round(sizes.read_share * sizes.n_items), reading)]
        n_read_by_training = sizes.n_items * request.context
    parts = [(n, work) for n, work in parts if n]
    n_answers = sum(n for n, _ in parts)
    return Asked(
        n_answers,
        Workload(
            sum(n * work.prompt_tokens for n, work in parts) / max(1, n_answers),
            sum(n * work.answer_tokens for n, work in parts) / max(1, n_answers),
        ),
        max((work.context for _, work in parts), default=0.0),
        n_read_by_training * BYTES_PER_TOKEN / 1e9,
    )


def _n_alignment(config: Config, strategy: Any) -> int:
    """Return the most answers that an alignment asks of the teacher; other strategies ask none."""
    if not strategy.name.startswith("alignment"):
        return 0
    n_items, n_labelled = int(getattr(strategy, "n_items", 0)), _n_labelled(config)
    return min(n_items, n_labelled or n_items) * int(getattr(strategy, "n_samples", 1))


def _n_labelled(config: Config) -> int | None:
    """Return how many training items the task has; None where it makes as many as are asked."""
    n: int | None = getattr(config.task, "n_train", None)
    return n


def _of_probe(teacher: TeacherProbe) -> Workload:
    n = max(1, teacher.n_items)
    return Workload(teacher.input_tokens / n, teacher.output_tokens / n)


def _tokens_per_byte(config: Config, teacher: TeacherProbe) -> float:
    """Return the teacher's tokens of a byte of text, template included, as the probe saw them."""
    task = config.task
    chats = [
        task.messages(item, teacher.prompt)
        if teacher.prompt in task.prompts
        else task.student_messages(item)
        for item in task.items("validation", teacher.n_items)
    ]
    n_bytes = sum(len(message["content"].encode()) for chat in chats for message in chat)
    seen = teacher.input_tokens * len(chats) / max(1, teacher.n_items)
    return seen / n_bytes if n_bytes and seen else 1 / BYTES_PER_TOKEN
