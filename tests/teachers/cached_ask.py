"""Chats asked of a teacher, with one limit on the length of all answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stratos.core.context import Context
from stratos.tasks.base import Message
from stratos.teachers.asking import ask_questions
from stratos.teachers.base import Answer, Question, Teacher


def cached_ask(
    teacher: Teacher, chats: Sequence[list[Message]], max_tokens: int, context: Context, **how: Any
) -> list[Answer]:
    """Answer chats in the order given; `how` is that of `ask_questions`."""
    return ask_questions(teacher, [Question(one, max_tokens) for one in chats], context, **how)
