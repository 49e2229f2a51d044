"""The teacher's workload: number of answers and their tokens.

The evaluation's answers are as long as the probe saw them. So are those of alignment, unless a
declared complexity says otherwise. A question of alignment takes `strategy.n_samples` answers at
most: by expectation all of them where the probe's share says that the teacher is wrong, and
elsewhere as few as settle it. Injection asks for none, unless the teacher writes the reasoning
(`strategy.rationale`): that is a longer chat with a longer answer, and where the task cannot check
its steps, a second chat that reads it. What is refused is written again, in a chat that holds what
was written before: at least never, at most always, `strategy.refused_share` of them by expectation.
Answers that are kept from before are asked for no more; with a reasoning is kept what read it.
A strategy that learns from a priced teacher's distribution has it score the texts that were right,
as the student reads them, with one token out: once with a cache, else whenever they are learnt
from. An endpoint that scores no given text takes nothing for it, which is the low end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stratos.config import Config
from stratos.core.formats import counted
from stratos.distill.recipe import training_length
from stratos.estimate.cards import Workload
from stratos.plan.option import BYTES_PER_TOKEN
from stratos.plan.options.workload import assumed
from stratos.records import Assumption, TeacherProbe
from stratos.synthesize.strategy import Strategy, Writing
from stratos.tasks.base import Task
from stratos.teachers.cost_estimate import n_expected
from stratos.teachers.reply import MESSAGE_TOKENS

_SHARE_OF_LIMIT = 0.5
"""How much of the longest answer a reasoning takes, where nothing tells."""

Part = tuple[float, Workload]
"""A number of answers of one kind, and what one of them takes."""


@dataclass(frozen=True)
class Load:
    """So many answers, with what one of them takes on average."""

    n_answers: int
    work: Workload

    @staticmethod
    def of(parts: Sequence[Part]) -> Load:
        """Put numbers of answers of several kinds together."""
        n = round(sum(number for number, _ in parts))
        return Load(
            n,
            Workload(
                sum(number * work.prompt_tokens for number, work in parts) / max(1, n),
                sum(number * work.answer_tokens for number, work in parts) / max(1, n),
            ),
        )

    def plus(self, more: Load) -> Load:
        """Return both together."""
        return Load.of([(self.n_answers, self.work), (more.n_answers, more.work)])


@dataclass(frozen=True)
class TeacherLoad:
    """What one teacher is expected to be asked, and between which ends that may lie."""

    n_answers: int
    work: Workload
    least: Load
    most: Load
    why: str
    """What makes it a range; "" where the ends are the same."""
    evaluated: Load
    """Those of the answers that are asked for behind the training."""
    scored: Load
    """Texts that it scores besides, where its endpoint scores given text."""
    after_deploy: Load
    """Answers besides that rooms of contrib ask for once the student is served."""
    longest: float
    """Tokens of the longest kind, prompt and answer together: what memory has to hold."""
    dataset_gb: float
    """What the training reads of it."""
    most_tokens: Workload
    """Most that one call may take: the ceiling that is set aside for it."""
    assumptions: tuple[Assumption, ...] = ()


def teacher_load_of(
    config: Config,
    teacher: TeacherProbe,
    strategy: Strategy,
    n_cached: int = 0,
    n_after_deploy: int = 0,
) -> TeacherLoad:
    """Return what a teacher is asked under a strategy, evaluation included.

    Args:
        config: the run.
        teacher: what the probe saw.
        strategy: the configured one.
        n_cached: answers it would ask for that are there already.
        n_after_deploy: answers that are asked for once the student is served.
    """
    # The questions of alignment, each with as many answers as settle it; a log has its answers.
    n_taught = strategy.n_questions(config.task) if teacher.logged is None else 0
    n_least, n_most = strategy.fewest_samples(), strategy.most_samples()
    covered, declared = teacher.exact.mean, config.complexity.path_tokens
    n_samples = covered * n_least + (1 - covered) * n_most
    probed = _of_probe(teacher)
    answer = Workload(probed.prompt_tokens, declared) if n_taught and declared else probed
    n_evaluated = n_expected(teacher, config.evaluate, config.limits, config.task)
    expected, least, most = (
        [(n_evaluated + (max(0.0, n_taught * n - n_cached) if n_taught else 0), answer)]
        for n in (n_samples, n_least, n_most)
    )
    reasons = []
    if n_least < n_most and n_taught:
        reasons.append(
            f"a question takes {n_least} to {n_most} answers "
            f"(strategy.{strategy.samples_key}), {n_samples:.1f} "
            f"where {covered:.0%} of questions are known to it"
        )
    scored, why_scored = _scored(config, teacher, strategy, n_taught * covered, answer)
    why = "; ".join(filter(None, (*reasons, why_scored)))
    n_read_by_training = n_taught * answer.context
    assumptions: list[Assumption] = []
    # The reasonings of injection, where the teacher writes them.
    sizes = strategy.writing(config.task) if config.task.can_reverse else None
    if sizes is not None:
        per_byte = _tokens_per_byte(config.task, teacher)
        written, assumptions = _written(sizes, declared if sizes.is_learnt else None, per_byte)
        n_asked = max(0, sizes.n_items - n_cached)
        for parts, refused in ((expected, sizes.refused_share), (least, 0.0), (most, 1.0)):
            parts += _writing(sizes, n_asked, refused, per_byte, written)
        why = _why(sizes)
        if sizes.is_learnt:
            n_read_by_training = sizes.n_items * (per_byte * sizes.request_bytes + written)
    load = Load.of(expected)
    longest_prompt = max((work.prompt_tokens for n, work in most if n), default=0.0)
    longest_answer = max(
        *teacher.max_tokens_by_prompt.values(),
        strategy.longest_answer_tokens or 0,
        0 if sizes is None else sizes.max_tokens,
    )
    return TeacherLoad(
        n_answers=load.n_answers,
        work=load.work,
        least=Load.of(least),
        most=Load.of(most),
        why=why,
        evaluated=Load.of([(n_evaluated, answer)]),
        scored=scored,
        after_deploy=Load.of([(n_after_deploy, probed)]),
        longest=max((work.context for n, work in most if n), default=0.0),
        dataset_gb=n_read_by_training * BYTES_PER_TOKEN / 1e9,
        most_tokens=Workload(BYTES_PER_TOKEN * longest_prompt + 2 * MESSAGE_TOKENS, longest_answer),
        assumptions=tuple(assumptions),
    )


def _written(
    sizes: Writing, declared: float | None, per_byte: float
) -> tuple[float, list[Assumption]]:
    """Return the tokens of a reasoning that the teacher writes, and what is assumed of it."""
    assumptions = []
    written = declared or _SHARE_OF_LIMIT * sizes.max_tokens
    if not declared and sizes.path_bytes:
        written = min(sizes.max_tokens, per_byte * sizes.path_bytes)
    elif not declared:
        assumptions.append(assumed("reasoning", written))
    if sizes.n_retries:
        assumptions.append(assumed("refused", sizes.refused_share))
    return written, assumptions


def _scored(
    config: Config, teacher: TeacherProbe, strategy: Strategy, n_texts: float, answer: Workload
) -> tuple[Load, str]:
    """Return the texts that a priced teacher scores for a training, and why they are a range.

    Args:
        config: the run.
        teacher: what the probe saw.
        strategy: the configured one.
        n_texts: right answers that are learnt.
        answer: prompt and answer of one, as the teacher was asked for it.
    """
    nothing = Load.of([])
    signal = strategy.signal
    if signal is None or n_texts < 1:
        return nothing, ""
    is_paid = bool(teacher.card.usd_per_million_input_tokens)
    if not is_paid or signal.cache_path is not None or signal.beyond_servers() is not None:
        return nothing, ""
    n_tokens = max(1.0, _student_tokens(config.task, teacher) + answer.answer_tokens)
    epochs = [
        training_length(config.trainer, student, n_texts, n_tokens).epochs
        for student in config.students
    ]
    is_cached = signal.cache != "none"
    n_times = 1.0 if is_cached else max([1.0, *epochs])
    how_often = (
        "once (strategy.cache)"
        if is_cached
        else f"{n_times:.1f} times, as often as they are learnt from (strategy.cache=topk: once)"
    )
    texts = counted(round(n_texts), "right answer", spec=",")
    why = f"where its endpoint scores given text, it scores {texts} {how_often}"
    return Load.of([(n_texts * n_times, Workload(n_tokens, 1))]), why


def _student_tokens(task: Task, teacher: TeacherProbe) -> float:
    """Return the teacher's tokens of a question as the student is asked it."""
    items = task.items("validation", teacher.n_items)
    chats = [task.student_messages(item) for item in items]
    n_bytes = sum(len(message["content"].encode()) for chat in chats for message in chat)
    return _tokens_per_byte(task, teacher) * n_bytes / max(1, len(chats))


def _writing(
    sizes: Writing, n_items: int, refused_share: float, per_byte: float, written: float
) -> list[Part]:
    """Return the chats of so many items: each try's request and, where it is read, its reading.

    Args:
        sizes: of the chats.
        n_items: items that the teacher is asked for.
        refused_share: share of each try that is written again, as long as it may be.
        per_byte: the teacher's tokens of a byte.
        written: tokens of a reasoning.
    """
    read = Workload(per_byte * sizes.reading_bytes + written, per_byte * sizes.conclusion_bytes)
    parts: list[Part] = []
    for n_before in range(1 + sizes.n_retries):
        again = n_before * (written + per_byte * sizes.feedback_bytes)
        n = n_items * refused_share**n_before
        parts.append((n, Workload(per_byte * sizes.request_bytes + again, written)))
        parts.append((n * sizes.read_share, read))
    return parts


def _why(sizes: Writing) -> str:
    """Say what makes the number of answers a range; "" where nothing does."""
    if not sizes.n_retries:
        return ""
    times = "once" if sizes.n_retries == 1 else f"{sizes.n_retries} times"
    return (
        f"{sizes.refused_share:.0%} of its reasonings are taken to be refused "
        f"(strategy.refused_share) and written again, {times} at most"
    )


def _of_probe(teacher: TeacherProbe) -> Workload:
    n = max(1, teacher.n_items)
    return Workload(teacher.input_tokens / n, teacher.output_tokens / n)


def _tokens_per_byte(task: Task, teacher: TeacherProbe) -> float:
    """Return the teacher's tokens of a byte of text, template included, as the probe saw them."""
    chats = [
        task.messages(item, teacher.prompt)
        if teacher.prompt in task.prompts
        else task.student_messages(item)
        for item in task.items("validation", teacher.n_items)
    ]
    n_bytes = sum(len(message["content"].encode()) for chat in chats for message in chat)
    seen = teacher.input_tokens * len(chats) / max(1, teacher.n_items)
    return seen / n_bytes if n_bytes and seen else 1 / BYTES_PER_TOKEN
