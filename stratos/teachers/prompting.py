"""How a teacher is asked: few-shot, or as the student where it was distilled, and how long.

A bundle of an earlier run has learnt to answer the bare question, at whatever length its reasoning
needs. Shown a teacher's few-shot prompts, and cut after a line, it would look blind. So where its
model card names the task at hand, it is asked as its user would ask it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stratos.config import Config
from stratos.core.errors import TeacherError
from stratos.models.decode.decoder import repeats
from stratos.records import Probe, is_cut_short
from stratos.tasks.base import Item, Message, Task
from stratos.teachers.base import (
    LENGTH,
    REPETITION,
    TOO_LONG,
    Answer,
    Question,
    Teacher,
)
from stratos.teachers.words import CutShort

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


# The maximum answer length in tokens: from the task's data, else from the first answers.
#
# The longest answer belongs to the task and its prompt. A prompt that asks for the bare answer, or
# for reasoning that the data have, gets more tokens than any tokenizer makes of the longest such
# text. A prompt that asks for reasoning that the data do not have is tried with `MEASURED_TOKENS`
# on a few items, and what is seen then sets the limit.
#
# Answers that are cut there are counted. Where they are more than one in twenty, they are asked for
# again with four times the tokens, as far as the teacher's context, its speed and the money allow,
# and as long as that helps. One that repeats itself is asked once more as well: it may be a table
# of equal rows. Where it goes on repeating itself there, it is a loop, and was not cut.

MEASURED_TOKENS = 256
"""Longest answer of the first few, where nothing tells how long one is."""
_GROWTH = 4
_LEAST_GROWTH = 2
"""Less than that is not worth asking again."""
_SPARE_TOKENS = 48
"""For a sentence around an answer."""
_MARGIN = 2
"""How much longer than the longest of a few measured answers one may be."""
_SHORT_BYTES = 256
"""Up to so many bytes a text may have a token for each (digits, code); of what is longer, a token
for every second byte is more than common tokenizers make of any language."""
_LACKING = "Longer ones were refused, or there was no money for them."
_LEAST_LOOP = 24
"""Characters that have to repeat in a short answer, in a longer one half of it."""


@dataclass(frozen=True)
class AnswerLimit:
    """The longest answer to one prompt, in tokens."""

    tokens: int
    source: str
    """What it rests on, as a phrase."""
    is_fixed: bool = False
    """True if it is not raised: the user has named it, or raising it did not help."""
    is_provisional: bool = False
    """True if it only serves to measure the first few answers."""
    is_raised: bool = False
    """True if cut answers were longer with it than with the one before."""
    stopped_by: str = ""
    """Why it was not raised further, as a sentence."""

    def complaint(self, teacher: str, answers: Sequence[Answer]) -> CutShort | None:
        """Return that too many answers were cut; None where they were not."""
        n_cut = n_truncated(answers)
        if not is_cut_short(n_cut, len(answers)):
            return None
        advice = self.stopped_by or "A larger limit asks for longer ones (probe.max_tokens)."
        return CutShort(teacher, n_cut, len(answers), self.tokens, self.source, advice)

    def measured_by(self, answers: Sequence[Answer]) -> AnswerLimit:
        """Return the limit that the first answers under a provisional one lead to."""
        if not self.is_provisional or not answers:
            return self
        # What repeats itself to the end says nothing of how long an answer is.
        ended = [answer.output_tokens for answer in answers if answer.finish != REPETITION]
        longest = max(ended, default=0)
        tokens = max(self.tokens, longest)
        if longest and not n_truncated(answers):
            tokens = _MARGIN * longest + _SPARE_TOKENS
        return replace(
            self, tokens=tokens, source=f"the first {len(answers)} answers", is_provisional=False
        )


def data_limit(task: Task, prompt: str) -> AnswerLimit:
    """Return the limit of a prompt as the task's data tell it, else a provisional one."""
    return limit_of(task.answer_texts(prompt))


def limit_of(texts: Sequence[str]) -> AnswerLimit:
    """Return the limit under which each of some texts is whole; a provisional one without any."""
    if not texts:
        return AnswerLimit(MEASURED_TOKENS, "nothing measured yet", is_provisional=True)
    n_bytes = max(len(text.encode("utf-8", "replace")) for text in texts)
    n_tokens = min(n_bytes, _SHORT_BYTES) + max(0, n_bytes - _SHORT_BYTES) // 2
    return AnswerLimit(n_tokens + _SPARE_TOKENS, f"the longest of {len(texts):,} texts of the data")


def is_truncated(answer: Answer) -> bool:
    """Return whether an answer ended at the limit."""
    return answer.finish == LENGTH


def _is_loop(before: Answer, after: Answer) -> bool:
    """Return whether a cut answer repeats itself, and does nothing else in several times the room.

    At the first limit a loop looks like a table of equal rows, which ends somewhere.
    """
    return all(
        is_truncated(answer) and repeats(answer.text, half, half)
        for answer in (before, after)
        for half in [max(_LEAST_LOOP, len(answer.text) // 2)]
    )


def _is_longer(after: Answer, before: Answer) -> bool:
    """Return whether more room gave a longer answer; reasoning counts, seen or not.

    Tokens that are counted from bytes are the limit's own where an answer is cut: there the text
    tells. Where that is empty nothing tells, and the next limit is worth trying.
    """
    if before.is_estimated or after.is_estimated:
        return len(after.text) > len(before.text) or not after.text
    return after.output_tokens > before.output_tokens


def n_truncated(answers: Sequence[Answer]) -> int:
    """Return how many answers ended at the limit."""
    return sum(map(is_truncated, answers))


@dataclass
class ChatGroup:
    """Chats of one prompt with their answers so far."""

    chats: Sequence[list[Message]]
    limit: AnswerLimit
    answers: list[Answer]
    """Of the first chats; fewer than all where the money ended."""

    @property
    def truncated(self) -> list[int]:
        """Numbers of the answers that ended at the limit."""
        return [index for index, answer in enumerate(self.answers) if is_truncated(answer)]

    def wider(self, teacher: Teacher) -> AnswerLimit | None:
        """Return the limit to ask the cut answers with again; None where that is not to be done."""
        limit, cut = self.limit, self.truncated
        if limit.is_fixed or not is_cut_short(len(cut), len(self.answers)):
            return None
        most = teacher.most_tokens()
        tokens = min(most, _GROWTH * limit.tokens)
        chats = [self.chats[index] for index in cut]
        larger = fitting(teacher, chats, replace(limit, tokens=tokens), least=limit.tokens)
        return larger if larger.tokens >= _LEAST_GROWTH * limit.tokens else None

    def take(self, again: Sequence[tuple[int, Answer]], wider: AnswerLimit) -> None:
        """Put longer answers in the place of those that were cut; fix a limit that does not help.

        Args:
            again: number of the cut answer, and the one that was asked for with more room.
            wider: the limit that it was asked with.
        """
        n_cut, helped = len(self.truncated), False
        for index, answer in again:
            before = self.answers[index]
            if answer.finish == TOO_LONG:
                continue
            if _is_loop(before, answer):
                self.answers[index] = replace(answer, finish=REPETITION)
            elif _is_longer(answer, before) or not is_truncated(answer):
                self.answers[index], helped = answer, True
        if helped:
            self.limit = replace(wider, is_raised=True)
        if len(again) < n_cut:
            self.limit = replace(self.limit, is_fixed=True, stopped_by=_LACKING)
        elif not helped and self.truncated:
            why = f"Asked for {wider.tokens:,}, it gives no more: check its endpoint's own limit."
            self.limit = replace(self.limit, is_fixed=True, stopped_by=why)


def ask_whole(
    teacher: Teacher,
    groups: Sequence[tuple[Sequence[list[Message]], AnswerLimit]],
    ask: Callable[[list[Question]], list[Answer]],
    matters: Callable[[Sequence[ChatGroup]], Sequence[bool]] | None = None,
    *,
    foretell: Callable[[Sequence[Question]], object] | None = None,
) -> list[ChatGroup]:
    """Answer chats of several prompts together, and those again that were cut for want of room.

    Args:
        teacher: who is asked.
        groups: chats of each prompt, and their limit.
        ask: returns the answers to questions in order, fewer where the money ends.
        matters: tells of each group, by the answers of all, whether longer answers to it decide
            anything; None: they do.
        foretell: called with the questions that are to be asked again, before they are.

    Returns:
        The answers of each group, and the limit that they were asked with last.
    """
    groups_asked = [ChatGroup(chats, fitting(teacher, chats, limit), []) for chats, limit in groups]
    # The shortest first: where the money ends, the dearest answers are those that are lacking.
    first = [(group, chat) for group in sorted(groups_asked, key=_tokens) for chat in group.chats]
    questions = [Question(chat, group.limit.tokens) for group, chat in first]
    for (group, _), answer in zip(first, ask(questions), strict=False):
        group.answers.append(answer)
    while grown := _growing(teacher, groups_asked, matters):
        again = [(group, i, wider) for group, wider in grown for i in group.truncated]
        questions = [Question(group.chats[i], wider.tokens) for group, i, wider in again]
        if foretell is not None:
            foretell(questions)
        try:
            answers = ask(questions)
        except TeacherError:  # it refuses so long an answer: those that there are stay
            answers = []
        pairs = [(group, i, answer) for (group, i, _), answer in zip(again, answers, strict=False)]
        for group, wider in grown:
            group.take([(i, answer) for own, i, answer in pairs if own is group], wider)
    return groups_asked


def fitting(
    teacher: Teacher, chats: Sequence[list[Message]], limit: AnswerLimit, least: int = _SPARE_TOKENS
) -> AnswerLimit:
    """Return the limit, halved until no chat passes the teacher's context for its sake.

    Args:
        teacher: who is asked.
        chats: the questions.
        limit: of their answers; a fixed one stays.
        least: below which it is not lowered.
    """
    if limit.is_fixed:
        return limit

    def n_beyond(tokens: int) -> int:
        return sum(teacher.too_long(Question(chat, tokens)) is not None for chat in chats)

    tokens, least = limit.tokens, min(least, limit.tokens)
    if n_beyond(tokens):
        n_anyway = n_beyond(least)
        while tokens > least and n_beyond(tokens) > n_anyway:
            tokens = max(least, tokens // 2)
    return limit if tokens == limit.tokens else replace(limit, tokens=tokens)


def _growing(
    teacher: Teacher,
    groups: Sequence[ChatGroup],
    matters: Callable[[Sequence[ChatGroup]], Sequence[bool]] | None,
) -> list[tuple[ChatGroup, AnswerLimit]]:
    """Return whose cut answers are to be asked for again, and with which limit."""
    matter = [True] * len(groups) if matters is None else matters(groups)
    wider = [
        group.wider(teacher) if yes else None for group, yes in zip(groups, matter, strict=True)
    ]
    return [(group, limit) for group, limit in zip(groups, wider, strict=True) if limit is not None]


def _tokens(group: ChatGroup) -> int:
    return group.limit.tokens
