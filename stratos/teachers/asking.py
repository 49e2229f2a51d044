"""Ask a teacher what nobody asked it before, within the budget, and keep every answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stratos.context import Context
from stratos.errors import BudgetError, StratosError
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, Teacher, Tick
from stratos.teachers.cache import AnswerCache, answer_key

_CHATS_PER_RESERVATION = 256
"""Paid chats for which money is set aside at once; fewer where less money is left."""

_MESSAGE_TOKENS = 16
"""Most tokens that a chat template adds to a message."""


def cached_ask(
    teacher: Teacher,
    chats: Sequence[list[Message]],
    max_tokens: int,
    context: Context,
    *,
    tick: Tick | None = None,
    limit_usd: float | None = None,
    cut: bool = False,
) -> list[Answer]:
    """Answer chats in the order given, asking the teacher only what nobody asked it before.

    What a paid teacher may cost at most is set aside in the ledger before it is asked, and settled
    at the price of the tokens that were used. Answers that came before an error are kept.

    Args:
        teacher: who is asked.
        chats: the questions; equal ones are asked once.
        max_tokens: longest answer.
        context: of the stage: cache folder, ledger, warnings.
        tick: called with (done, total).
        limit_usd: a tighter cap than the budget.
        cut: stop where the money ends, with a warning, and return the answers up to there.

    Raises:
        BudgetError: the money does not suffice, and `cut` is false.
        TeacherError: the teacher failed.
    """
    identity = teacher.identity()
    keys = [answer_key(identity, chat, max_tokens) for chat in chats]
    cache = AnswerCache(context.cache_dir, context.warn)
    try:
        found = cache.get(keys)
        missing = {key: chat for key, chat in zip(keys, chats, strict=True) if key not in found}
        new: dict[str, Answer] = {}

        def keep(key: str, answer: Answer) -> None:
            new[key] = answer
            cache.put(key, answer)
            if tick is not None:
                tick(len(chats) - len(missing) + len(new), len(chats))

        if tick is not None:
            tick(len(chats) - len(missing), len(chats))
        if missing:
            _ask(teacher, missing, max_tokens, keep, context, limit_usd, cut)
    finally:
        cache.close()
    known = {key: replace(answer, cached=True) for key, answer in (new | found).items()}
    answers: list[Answer] = []
    for key in keys:
        if key not in known:
            break
        # An answer is paid for where it first occurs; an equal question after that is free.
        answers.append(new.pop(key, known[key]))
    return answers


def cost_usd(card: ModelCard, answers: Sequence[Answer]) -> float:
    """Return what answers cost at the prices of a card; those from the cache cost nothing."""
    bought = [answer for answer in answers if not answer.cached]
    n_input = sum(answer.input_tokens for answer in bought)
    return _price(card, n_input, sum(answer.output_tokens for answer in bought))


def _price(card: ModelCard, input_tokens: int, output_tokens: int) -> float:
    usd_per_million = card.usd_per_million_input_tokens or 0.0
    output_usd_per_million = card.usd_per_million_output_tokens or 0.0
    return (input_tokens * usd_per_million + output_tokens * output_usd_per_million) / 1e6


def _most_usd(card: ModelCard, chats: Sequence[list[Message]], max_tokens: int) -> float:
    """Return the most that chats can cost: no tokenizer makes more tokens than there are bytes."""
    n_input = sum(
        len(message["content"].encode("utf-8", "replace")) + _MESSAGE_TOKENS
        for chat in chats
        for message in chat
    )
    return _price(card, n_input, len(chats) * max_tokens)


def _ask(
    teacher: Teacher,
    chats: Mapping[str, list[Message]],
    max_tokens: int,
    keep: Callable[[str, Answer], None],
    context: Context,
    limit_usd: float | None,
    cut: bool,
) -> None:
    """Ask every chat, handing each answer on with its key; a paid teacher chunk by chunk."""

    def ask(keys: Sequence[str], got: list[Answer]) -> None:
        def take(index: int, answer: Answer) -> None:
            got.append(answer)
            keep(keys[index], answer)

        teacher.ask([chats[key] for key in keys], max_tokens, keep=take)

    keys = list(chats)
    card = teacher.card()
    if _price(card, 1, 1) == 0:
        ask(keys, [])
        return
    size = _CHATS_PER_RESERVATION
    while keys:
        chunk = keys[:size]
        most = _most_usd(card, [chats[key] for key in chunk], max_tokens)
        got: list[Answer] = []
        try:
            with context.ledger.reserve(f"teacher {teacher.name}", most, limit_usd) as reservation:
                try:
                    ask(chunk, got)
                except StratosError:
                    # Calls that the provider refused are not billed. After any other error calls
                    # may still be under way, and the whole reservation counts as spent.
                    reservation.settle(cost_usd(card, got))
                    raise
                reservation.settle(cost_usd(card, got))
        except BudgetError as error:
            if len(chunk) > 1:
                size = len(chunk) // 2
                continue
            if not cut:
                raise
            context.warn(f"Teacher {teacher.name} was asked {len(keys)} questions less: {error}")
            return
        keys = keys[len(chunk) :]
