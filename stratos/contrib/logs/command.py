"""`stratos logs FILE`: which workloads a log has, what they cost, what to run next.

The file is read once. No model reads the text: personal data are known by their form
(`stratos.core.redact`).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stratos.contrib.logs.conversation import CHARACTERS_A_TOKEN, Conversation, history_of
from stratos.contrib.logs.row_formats import KNOWN
from stratos.contrib.logs.teacher import shipped_card
from stratos.contrib.logs.turn_rows import (
    Seen,
    Workload,
    read_conversations,
    suited_to,
    unreadable,
    workload_of,
)
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError, UsageError
from stratos.core.extensions import filled
from stratos.core.formats import cents, counted, listed, shown, visible
from stratos.core.reasons import Reason
from stratos.core.redact import kinds_in
from stratos.core.values import override
from stratos.tasks.answers import object_of
from stratos.tasks.dedup.near import Alike
from stratos.tasks.rows import Problems, Unanswered
from stratos.tasks.words import Listing
from stratos.teachers.openai_settings import OpenAISettings, card_of

if TYPE_CHECKING:
    from stratos.contrib.logs.log_task import LogTask


def usd_of(card: OpenAISettings, input_tokens: float, output_tokens: float) -> float | None:
    """Return what tokens cost at a card's price; None where it has none."""
    input_usd, output_usd = card.usd_per_million_input_tokens, card.usd_per_million_output_tokens
    if input_usd is None or output_usd is None:
        return None
    return (input_usd * input_tokens + output_usd * output_tokens) / 1e6


_OF_EACH = 25
"""Doubtful answers that are shown of each reason."""
_LONGEST_TEXT = 1500
"""Characters of a text of that page."""
_MODELS_SHOWN = 4
_MOST_SHOWN = 12
_MONTH_S = 30 * 86_400.0
_SHORTEST_S = 86_400.0
"""Time that a log has to span before it tells what a month costs."""
_MOST_LABELS = 200
_LONGEST = 90
_FEWEST_ROWS = 50
"""Answers below which nothing can be learnt and measured."""


def lines_of(log: Survey, card: OpenAISettings | None) -> Iterator[str]:
    """Yield what is printed of a survey.

    Args:
        log: of a file.
        card: at whose price all tokens count; None takes that of each logged model.
    """
    formats = [f"{n:,} {name}" for name, n in log.seen.formats.most_common()]
    n = counted(log.n_conversations, "conversation", spec=",")
    yield f"{log.path}: {n}{f' ({listed(formats)})' if formats else ''}."
    unused = [(counted(log.broken.n_lines, "broken row", spec=","), log.broken)]
    unused.append((f"{log.unanswered.n_lines:,} without an answer", log.unanswered))
    for title, listing in unused:
        if listing.n_lines:
            yield f"Not used: {title}:"
            yield from (f"    {shown(line, 200)}" for line in listing.lines())
    passed = [f"{n:,} {kind}" for kind, n in log.seen.passed.most_common()]
    if passed:
        yield f"Left out: {listed(passed)}."
    seen = log.seen
    counts = {
        "images and files": seen.n_images,
        "turns that call tools": seen.n_calls,
        "keys and tokens (replaced by ***)": seen.n_secrets,
    }
    if inside := [f"{n:,} {kind}" for kind, n in counts.items() if n]:
        yield f"In the messages: {listed(inside)}."
    several = len(log.workloads) > 1
    for number, facts in enumerate(log.workloads[:_MOST_SHOWN], start=1):
        yield ""
        yield from _of_workload(log, facts, number, several, card)
    if (more := len(log.workloads) - _MOST_SHOWN) > 0:
        yield f"\n… and {counted(more, 'smaller workload')}"


def _of_workload(
    log: Survey, facts: Facts, number: int, several: bool, card: OpenAISettings | None
) -> Iterator[str]:
    share = facts.n / log.n_conversations
    yield f"{number}. {_name(facts)}"
    multi = f", {facts.n_multi_turn / facts.n:.0%} of several turns" if facts.n_multi_turn else ""
    answers = counted(facts.n_answers, "answer", spec=",")
    yield f"    rows: {facts.n:,} ({share:.0%}), {answers}{multi}"
    is_counted = facts.n_counted == facts.n
    by = "" if is_counted else f" (estimated: {CHARACTERS_A_TOKEN:g} characters each)"
    yield (
        f"    tokens: {facts.input_tokens / facts.n:,.0f} in, {facts.output_tokens / facts.n:,.0f} "
        f"out a row{by}"
    )
    models = [
        f"{shown(model) or 'not named'} {n:,}"
        for model, n in facts.models.most_common(_MODELS_SHOWN)
    ]
    yield f"    model: {listed(models)}"
    yield f"    cost: {_cost(facts, card)}"
    yield from _terms(facts)
    metric = suited_to(facts.answers) if facts.answers else "f1"
    yield f"    answers: {_answers(facts, metric)}"
    copies = f"{facts.n_copies:,} ({facts.n_copies / facts.n:.0%})" if facts.n_copies else "none"
    yield f"    duplicates and near duplicates: {copies}"
    kinds = [f"{kind} in {n:,}" for kind, n in facts.personal.most_common()]
    yield f"    personal data, by plain patterns: {listed(kinds) if kinds else 'none found'}"
    if facts.n_tools or facts.n_calling:
        calling = counted(facts.n_calling, "turn", spec=",")
        yield f"    tools: offered in {facts.n_tools:,} rows, called in {calling}"
    if facts.n_calling >= _FEWEST_ROWS:
        yield f"    next: {_command(log, facts, several, 'tools')}"
    if facts.n_answers >= _FEWEST_ROWS or facts.n_calling < _FEWEST_ROWS:
        yield f"    next: {_next(log, facts, several)}"


def _name(facts: Facts) -> str:
    if facts.workload is None:
        return "other conversations"
    if facts.workload.is_system:
        return f'system prompt "{shown(" ".join(facts.system.split()), _LONGEST)}"'
    return f'questions that begin "{shown(facts.workload.beginning, _LONGEST)}"'


def _answers(facts: Facts, metric: str) -> str:
    if facts.n_like_json > facts.n_answers / 2:
        text = f"JSON objects, {facts.n_json / facts.n_answers:.1%} parse"
    else:
        different = len(set(facts.answers))
        of = f" of the first {len(facts.answers):,}" if len(facts.answers) < facts.n_answers else ""
        is_label = metric == "exact" and different <= min(_MOST_LABELS, len(facts.answers) // 5)
        what = ("label", "labels") if is_label else ("text", "different texts")
        text = f"{counted(different, *what, spec=',')}{of}"
    return f"{text}; metric that fits: {metric}"


def _terms(facts: Facts) -> Iterator[str]:
    """Say which of the models' terms do not allow what is planned with their answers."""
    cards = {card.name: card for card in map(card_of, facts.models) if card is not None}
    for card in cards.values():
        if card.outputs_may_train is False:
            yield (
                f"    terms: those of {card.model} ({card.license}) do not allow to train "
                "competing models on its answers. Make sure that you may"
            )


def _cost(facts: Facts, card: OpenAISettings | None) -> str:
    """Return what the rows cost at the card's price, and a month of them where times tell."""
    usd, unpriced = 0.0, set[str]()
    for model, (n_input, n_output) in facts.tokens_of.items():
        priced_by = card or card_of(model)
        price = None if priced_by is None else usd_of(priced_by, n_input, n_output)
        if price is None:
            unpriced.add(model)
        else:
            usd += price
    if len(unpriced) == len(facts.tokens_of):
        named = [shown(model) for model in sorted(unpriced) if model][:_MODELS_SHOWN]
        reason = f"no card has a price of {listed(named)}" if named else "the rows name no model"
        return f"{reason}. Take the price of a card: --card gpt_4o_mini"
    unnamed = "rows without a model"
    without = [shown(model) or unnamed for model in sorted(unpriced)[:_MODELS_SHOWN]]
    also = f"; without {listed(without)}, of which no card has a price" if without else ""
    what = f"{cents(usd)} for these rows"
    if facts.n_timed < facts.n / 2:
        return f"{what}; the file has no times, which would tell what a month costs{also}"
    span = facts.last_s - facts.first_s
    days = f"{_day(facts.first_s)} to {_day(facts.last_s)}"
    if span < _SHORTEST_S:
        return f"{what}, of less than a day ({days}){also}"
    return f"{cents(usd * _MONTH_S / span)} a month ({what}, {days}){also}"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _next(log: Survey, facts: Facts, several: bool) -> str:
    if facts.n_answers < _FEWEST_ROWS:
        return f"too few answers to learn from: {_FEWEST_ROWS} are the least"
    if facts.workload is None and several:
        return "tell them apart yourself, such as by a system prompt of their own"
    # A log has times, by which it is split; other files are split by a hash.
    is_log = facts.n_timed == facts.n and facts.first_s < facts.last_s
    return _command(log, facts, several, "logs" if is_log else "chat")


def _command(log: Survey, facts: Facts, several: bool, task: str) -> str:
    words = ["python", "-m", "stratos", f"+task={task}", override("task.path", log.path)]
    if several and facts.workload is not None:
        words.append(f"task.workload={facts.workload.id}")
    if log.broken.n_lines or log.unanswered.n_lines:
        words.append("task.on_error=skip")
    return shlex.join(words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Read logged conversations, tell workloads apart, and say of each what it costs, what its "
        "answers are, and the command that makes a student of it. Nothing is asked or sent."
    )
    parser.epilog = f"formats: {KNOWN}"
    parser.add_argument("path", help="file, URL, or folder of datasets")
    parser.add_argument("--card", help="teacher at whose price all tokens count, such as gpt_4o")
    parser.add_argument("--messages-key", help="field of the messages, if not recognised")
    parser.add_argument("--answer-key", help="field of the answer beside them")
    parser.add_argument(
        "--doubtful",
        metavar="PAGE",
        help="write a page (HTML) of logged answers that are probably wrong",
    )
    parser.add_argument("--workload", help="id of the only workload that the page is about")


def run(args: argparse.Namespace) -> None:
    """Read a file and print what is in it.

    Raises:
        UsageError: the options do not go together.
        StratosError: it cannot be read.
    """
    if args.workload is not None and args.doubtful is None:
        raise UsageError("--workload names the workload of a page: add --doubtful PAGE.html")
    try:
        if args.doubtful is not None:
            _write_doubtful(args)
        else:
            _print_survey(args)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unreadable(args.path, error) from error


def _print_survey(options: argparse.Namespace) -> None:
    card = None if options.card is None else shipped_card(options.card, "--card ")
    tick = _tick if sys.stderr.isatty() else lambda n: None
    log = survey(options.path, options.messages_key, options.answer_key, tick)
    for line in lines_of(log, card):
        print(visible(line))
    if not log.n_conversations:
        raise StratosError(f"No conversation could be read. Formats: {KNOWN}.")


def _write_doubtful(options: argparse.Namespace) -> None:
    from stratos.contrib.logs.log_task import LogTask

    try:
        task = LogTask(
            options.path,
            messages_key=options.messages_key,
            answer_key=options.answer_key,
            workload=options.workload,
            on_error="skip",
        )
        n = write_page(task, Path(options.doubtful))
    except ValueError as error:
        raise StratosError(str(error)) from error
    doubtful = counted(n, "doubtful answer", spec=",")
    print(f"{options.doubtful}: {doubtful}, the first ones of each reason.")


def write_page(task: LogTask, path: Path) -> int:
    """Write the page of doubtful answers; return how many there are.

    Raises:
        StratosError: it cannot be written.
    """
    counts = Counter(why for why, _ in task.doubtful)
    page = filled(
        __file__,
        "doubtful.html.jinja",
        path=task.path,
        n=counts.total(),
        n_shown=_OF_EACH,
        groups=[
            (str(why), n, [row for reason, row in task.doubtful if reason == why][:_OF_EACH])
            for why, n in counts.most_common()
        ],
        text=_escaped,
        last_message=lambda row: history_of(row.question)[-1]["content"],
    )
    write_atomically(path, page.encode("utf-8", "replace"))
    return counts.total()


def _escaped(text: str) -> str:
    cut = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    return escape(visible(cut))


def _tick(n: int) -> None:
    print(f"\r{n:,} rows read", end="\r", file=sys.stderr, flush=True)


_N_ANSWERS = 2000
"""Answers of a workload that are looked at for the metric."""
_CHARACTERS_KEPT = 32 * 2**20
"""Of all these answers together: there may be as many workloads as rows."""
_MOST_WORKLOADS = 50_000
"""Workloads that are told apart before all others are one."""
_TICK = 1000


@dataclass
class Facts:
    """What is known of one workload."""

    workload: Workload | None
    """None for all that belong to none."""
    n: int = 0
    """Conversations, or requests."""
    n_answers: int = 0
    n_multi_turn: int = 0
    n_tools: int = 0
    """Requests that offer tools."""
    n_calling: int = 0
    """Turns of the model that call some."""
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    n_counted: int = 0
    """Conversations whose tokens the file says; those of the others are told by their length."""
    first_s: float = float("inf")
    last_s: float = float("-inf")
    n_timed: int = 0
    models: Counter[str] = field(default_factory=Counter)
    tokens_of: dict[str, list[float]] = field(default_factory=dict)
    """Of each model: tokens in, tokens out."""
    personal: Counter[str] = field(default_factory=Counter)
    """Kind of personal data to how many conversations have it."""
    n_json: int = 0
    """Answers that are JSON objects."""
    n_like_json: int = 0
    """Answers that begin as one, whether they are."""
    answers: list[str] = field(default_factory=list)
    """The first ones."""
    n_kept_characters: int = 0
    """Of these answers."""
    n_copies: int = 0
    """Conversations that say the same as another one, or nearly."""
    system: str = ""
    """System prompt of the first one."""

    def add(self, conversation: Conversation, keeps: bool = True) -> None:
        """Take a conversation in.

        Args:
            conversation: a conversation.
            keeps: whether its answers may be kept.
        """
        about = conversation.about
        self.n += 1
        self.system = self.system or conversation.system
        self.n_tools += about.offers_tools
        self.n_calling += len(conversation.called)
        self.n_multi_turn += sum(message["role"] == "user" for message in conversation.messages) > 1
        texts = [conversation.messages[index]["content"] for index in conversation.answered]
        self.n_answers += len(texts)
        for text in texts:
            self._add_answer(text, keeps)
        tokens = self.tokens_of.setdefault(about.model, [0.0, 0.0])
        self.models[about.model] += 1
        n_input, n_output = _tokens(conversation)
        self.n_counted += about.input_tokens is not None and about.output_tokens is not None
        self.input_tokens += n_input
        self.output_tokens += n_output
        tokens[0] += n_input
        tokens[1] += n_output
        if about.time_s is not None:
            self.n_timed += 1
            self.first_s = min(self.first_s, about.time_s)
            self.last_s = max(self.last_s, about.time_s)
        kinds = set().union(
            *(
                kinds_in(message["content"])
                for message in conversation.messages
                if message["role"] != "system"
            )
        )
        self.personal.update(kinds)

    def _add_answer(self, text: str, keeps: bool) -> None:
        is_like = text.lstrip().startswith(("{", "```json", "```\n{"))
        self.n_like_json += is_like
        self.n_json += is_like and object_of(text) is not None
        if keeps and len(self.answers) < _N_ANSWERS:
            self.answers.append(text)
            self.n_kept_characters += len(text)

    def merge(self, facts: Facts) -> None:
        """Take another workload in."""
        for name in ("n", "n_answers", "n_multi_turn", "n_tools", "n_calling",
                     "input_tokens", "output_tokens", "n_counted", "n_timed", "n_json",
                     "n_like_json", "n_copies"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(facts, name))
        self.first_s, self.last_s = min(self.first_s, facts.first_s), max(self.last_s, facts.last_s)
        self.models.update(facts.models)
        self.personal.update(facts.personal)
        for model, (n_input, n_output) in facts.tokens_of.items():
            tokens = self.tokens_of.setdefault(model, [0.0, 0.0])
            tokens[0] += n_input
            tokens[1] += n_output
        self.answers += facts.answers[: _N_ANSWERS - len(self.answers)]


@dataclass(frozen=True)
class Survey:
    """What is in a file."""

    path: str
    seen: Seen
    workloads: list[Facts]
    """The largest first; the last may be of those that belong to none."""
    broken: Listing
    unanswered: Listing
    n_conversations: int


def survey(
    path: str,
    messages_key: str | None = None,
    answer_key: str | None = None,
    tick: Callable[[int], None] = lambda n: None,
) -> Survey:
    """Read a file once.

    Args:
        path: of the file.
        messages_key: field of the messages, where the format is not recognised.
        answer_key: field of the answer.
        tick: told now and then how many rows were read.

    Raises:
        OSError: it cannot be read.
    """
    seen, alike = Seen(), Alike()
    facts: dict[str, Facts] = {}
    places: dict[str, int] = {}
    of = array("I")
    broken, unanswered = Problems(), Problems()
    n_characters = 0
    for number, (line, row) in enumerate(
        read_conversations(path, seen, messages_key, answer_key), start=1
    ):
        if number % _TICK == 0:
            tick(number)
        if isinstance(row, Unanswered):
            unanswered.add(number, line, row.why)
        elif isinstance(row, Reason):
            broken.add(number, line, row)
        else:
            workload = workload_of(row)
            id = workload.id if workload.id in facts or len(facts) < _MOST_WORKLOADS else ""
            known = facts.setdefault(id, Facts(workload if id else None))
            n_characters -= known.n_kept_characters
            known.add(row, keeps=n_characters < _CHARACTERS_KEPT)
            n_characters += known.n_kept_characters
            alike.add(row.user_text)
            of.append(places.setdefault(id, len(places)))
    _count_copies(facts, places, of, alike)
    return Survey(path, seen, _grouped(facts), broken.listing(), unanswered.listing(), len(of))


def _count_copies(
    facts: dict[str, Facts], places: dict[str, int], of: array[int], alike: Alike
) -> None:
    if not of:
        return
    pairs = np.stack([np.frombuffer(of, np.uint32).astype(np.int64), alike.groups()])
    counts = np.bincount(np.unique(pairs, axis=1)[0], minlength=len(places))
    for id, index in places.items():
        facts[id].n_copies = facts[id].n - int(counts[index])


def _grouped(facts: dict[str, Facts]) -> list[Facts]:
    """Return the workloads that are worth a line, the largest first, and the others as one."""
    n = sum(workload.n for workload in facts.values())
    least = max(20, n // 50)
    rest, large = Facts(None), []
    for workload in sorted(facts.values(), key=lambda workload: -workload.n):
        if workload.workload is not None and workload.n >= least:
            large.append(workload)
        else:
            rest.merge(workload)
    if not large and rest.n:
        return [rest]
    return [*large, *([rest] if rest.n else [])]


def _tokens(conversation: Conversation) -> tuple[float, float]:
    """Return tokens in and out of a conversation: as logged, or by the length of its texts."""
    about = conversation.about
    if about.input_tokens is not None and about.output_tokens is not None:
        return about.input_tokens, about.output_tokens
    # Each answer was asked for with all that stands before it.
    lengths = np.cumsum([len(message["content"]) for message in conversation.messages])
    places = (*conversation.answered, *conversation.called)
    n_input = sum(float(lengths[index - 1]) + about.tool_characters for index in places)
    n_output = sum(len(conversation.messages[index]["content"]) for index in places)
    return n_input / CHARACTERS_A_TOKEN, n_output / CHARACTERS_A_TOKEN
