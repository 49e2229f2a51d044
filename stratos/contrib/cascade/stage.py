"""The stage: ask the served student validation items, and choose when it asks its teacher."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from stratos.config import Config
from stratos.contrib.cascade.choosing_items import (
    answer_limit,
    are_few,
    check_enough,
    choosing_items,
    measuring_items,
)
from stratos.contrib.cascade.config import CascadeConfig, settings
from stratos.contrib.cascade.pairs import (
    ByTeacher,
    KeptPair,
    bundle_digest,
    half,
    level,
    look_of,
    of_pairs,
    right_by_teacher,
    write_pairs,
)
from stratos.contrib.cascade.record import Cascade, Escalation
from stratos.contrib.cascade.threshold import (
    Judge,
    StudentAnswer,
    StudentError,
    is_bare,
    n_needed,
    sampling_of,
    together,
)
from stratos.contrib.cascade.verdict import cascade_of
from stratos.contrib.cascade.words import LateTeacher
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.formats import with_items
from stratos.core.values import named
from stratos.deploy.bundle_server import engine_of, serving_bundle
from stratos.deploy.engines.base import Measure
from stratos.deploy.server import Server
from stratos.evaluate.answers import Answers, ask_teacher
from stratos.records import (
    Deployment,
    ModelCard,
    Plan,
    Probe,
    Scorecard,
    ServingSetting,
    TeacherProbe,
)
from stratos.tasks.base import Item
from stratos.teachers.base import Teacher
from stratos.teachers.call_budget import price
from stratos.teachers.prompting import AnswerLimit


def pair_of(
    id: str,
    chooses: bool,
    confidence: float,
    student: bool,
    by_teacher: ByTeacher,
    options: CascadeConfig,
    card: ModelCard,
) -> KeptPair:
    """Return an item as the endpoint would answer it, which waits so long and no longer."""
    took, right = by_teacher.took, by_teacher.right
    if took.seconds > options.teacher_seconds:
        right = student and options.if_unavailable == "student"
    return KeptPair(
        id,
        chooses,
        None if confidence == -math.inf else confidence,
        student,
        right,
        price(card, took.input_tokens, took.output_tokens, took.cached_input_tokens),
        took.seconds,
    )


def slowness(answers: Sequence[ByTeacher], options: CascadeConfig) -> LateTeacher | None:
    """Return that the teacher takes longer than a request waits; None where it does not."""
    most = options.teacher_seconds
    n_late = sum(answer.took.seconds > most for answer in answers)
    return LateTeacher(n_late, len(answers), most, options.if_unavailable) if n_late else None


_REQUEST_S = 600.0


def cascade(
    config: Config,
    probe: Probe,
    plan: Plan,
    scorecard: Scorecard,
    deployment: Deployment,
    context: Context,
) -> Cascade:
    """Choose below which confidence the served student asks its teacher, and measure that.

    Student and teacher answer validation items that nobody has read: they choose the threshold.
    The test items that the teacher answered in the evaluation measure it; the student is asked them
    again, since another engine or format is otherwise sure of its answers.

    Args:
        config: of the run, with `cascade.accuracy`.
        probe: which prompt the teacher answers best.
        plan: names teacher and servers.
        scorecard: what the teacher answered to test items, and what both cost.
        deployment: how the student is served.
        context: folder and ledger of the run.

    Raises:
        StratosError: the teacher cannot be asked, the engine does not tell how sure it is, or the
            student's server does not start or answer.
    """
    started = time.perf_counter()
    context = replace(context, tick=with_items(context.tick))
    stage = _Stage(config, probe, plan, scorecard, deployment, context)
    items = stage.items()
    student_answers = stage.ask_student(items.all)
    pairs = stage.pairs(items, student_answers)
    made = stage.choose(items, pairs)
    if not made.is_promised:
        context.warn(f"cascade: {made.text}")
    return replace(
        made,
        endpoint=stage.endpoint(items, student_answers),
        pairs_path=str(write_pairs(context.run_dir, pairs)),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Items:
    """What student and teacher are asked."""

    choosing: Sequence[Item]
    """Validation items that choose the threshold; none where one half of the test items does."""
    tested: Sequence[Item]
    by_teacher: Mapping[str, ByTeacher]
    """The teacher's answer to each of them, by its id."""
    left_out: float
    """Share of requests in slices too rare to be drawn."""
    n_too_long: int
    """Of the choosing ones, those that are longer than the teacher's context."""
    max_tokens: int
    """Longest answer of the teacher."""

    @property
    def all(self) -> list[Item]:
        return [*self.choosing, *self.tested]


@dataclass(frozen=True)
class _Stage:
    """The steps of the stage, with what they share."""

    config: Config
    probe: Probe
    plan: Plan
    scorecard: Scorecard
    deployment: Deployment
    context: Context

    @cached_property
    def _options(self) -> CascadeConfig:
        return settings(self.config)

    @cached_property
    def _measure(self) -> Measure:
        return _measure(self._options, self.deployment.run)

    @cached_property
    def _teacher(self) -> Teacher:
        return named(self.config.teachers, self.plan.teacher)

    @cached_property
    def _probed(self) -> TeacherProbe:
        return self.probe.of_teacher(self.plan.teacher)

    @cached_property
    def _bundle(self) -> Path:
        return Path(self.deployment.bundle_path)

    @cached_property
    def _judge(self) -> Judge:
        n_samples = self._options.n_samples if self._measure == "agreement" else 0
        sampling = sampling_of(self._bundle, self.deployment.run.engine)
        return Judge(self.config.task, "", self._measure, n_samples, sampling)

    @cached_property
    def _limit(self) -> AnswerLimit:
        return answer_limit(self.config, self._teacher, self._probed)

    @cached_property
    def _facts(self) -> list[str]:
        """What decides the answers: another try with the same ones is the same look."""
        return [
            bundle_digest(self._bundle), str(msgspec.json.encode(self.deployment.run)),
            self._measure, str(self._judge.n_samples), self._teacher.name,
            *self._teacher.identities(), self._probed.prompt, str(self._limit.tokens),
            str(self.config.evaluate.max_new_tokens),
        ]  # fmt: skip

    def items(self) -> _Items:
        """Choose the items, and have the teacher answer those that choose.

        Raises:
            StratosError: too few items for the promise, or the teacher cannot be asked.
        """
        options, folder = self._options, self.context.run_dir
        assert options.accuracy is not None
        by_teacher = right_by_teacher(folder, self.scorecard)
        tested, left_of_test = measuring_items(self.config, self.scorecard, by_teacher)
        choosing, left_out = choosing_items(self.config, self.probe, self._probed)
        look = look_of(folder, [item.id for item in choosing], self._facts, None)
        delta = level(1 - options.confidence, look)
        least = n_needed(1.0, options.accuracy / (1 - left_out), delta) or math.inf
        are_too_few = len(choosing) < least or are_few(len(choosing), len(tested), options)
        if are_too_few and least <= len(tested) // 2:
            choosing, left_out = [], 0.0
        check_enough(len(choosing) or len(tested) // 2, options, look, max(left_out, left_of_test))
        answers = Answers.none()
        if choosing:
            answers = self._ask_teacher(choosing)
            choosing = [*answers.items]
            by_teacher |= {
                item.id: ByTeacher(score.exact >= 1, took)
                for item, score, took in zip(
                    answers.items, answers.scores, answers.took, strict=True
                )
            }
        else:
            self.context.note(
                "cascade: the task has too few validation items that no earlier stage has read; "
                "one half of the test items chooses the threshold."
            )
        return _Items(
            choosing,
            tested,
            by_teacher,
            max(left_out if choosing else 0.0, left_of_test),
            answers.n_too_long,
            answers.max_tokens or self._limit.tokens,
        )

    def _ask_teacher(self, items: Sequence[Item]) -> Answers:
        teacher, context = self._teacher, self.context
        if (why := teacher.unreachable()) is not None:
            raise StratosError(f"The teacher {teacher.name} cannot be asked: {why}")
        try:
            return ask_teacher(
                self.config.task,
                teacher,
                self._probed.prompt,
                items,
                limit=self._limit,
                context=context,
                minutes=self.config.evaluate.teacher_minutes,
                tick=lambda done, total: context.tick(done, total, "teacher"),
            )
        finally:
            teacher.close()

    def ask_student(self, items: Sequence[Item]) -> list[StudentAnswer]:
        """Serve the student as it was deployed, and ask it all items."""
        run, context = self.deployment.run, self.context
        context.tick(0, len(items), "server starts")
        log_path = context.run_dir / "cascade" / "server.log"
        with serving_bundle(self._bundle, run, log_path) as server:
            return ask_all(
                server, self._judge, items, self.config.evaluate.max_new_tokens, run.slots,
                lambda done: context.tick(done, len(items), "student"),
            )  # fmt: skip

    def pairs(self, items: _Items, answers: Sequence[StudentAnswer]) -> list[KeptPair]:
        """Return each item as the endpoint would answer it."""
        chooses = {item.id for item in items.choosing}
        options, task = self._options, self.config.task
        slow = slowness([items.by_teacher[item.id] for item in items.all], options)
        if slow is not None:
            self.context.warn(str(slow))
        return [
            pair_of(
                item.id,
                item.id in chooses if chooses else half(item.question) == 0,
                answer.confidence,
                task.score(answer.text, item).exact >= 1,
                items.by_teacher[item.id],
                options,
                self._probed.card,
            )
            for item, answer in zip(items.all, answers, strict=True)
        ]

    def choose(self, items: _Items, pairs: Sequence[KeptPair]) -> Cascade:
        """Choose the threshold by the pairs, as one more look of the run."""
        folder, options = self.context.run_dir, self._options
        assert options.accuracy is not None
        run_pairs = of_pairs(
            self.plan, self.scorecard, self.deployment, pairs,
            self.config.traffic.requests_per_day, "validation" if items.choosing else "test",
        )  # fmt: skip
        chosen_by = [pair for pair in pairs if pair.chooses]
        tested = [pair.tested(is_exact=self._measure == "agreement") for pair in chosen_by]
        run_pairs = replace(
            run_pairs,
            look=look_of(folder, [pair.id for pair in chosen_by], self._facts, tested),
            n_answers=1 + self._judge.n_samples,
            n_too_long=run_pairs.n_too_long + items.n_too_long,
            left_out=items.left_out,
            folder=folder,
        )
        return cascade_of(run_pairs, options.accuracy, options.confidence)

    def endpoint(self, items: _Items, answers: Sequence[StudentAnswer]) -> Escalation:
        """Return how the endpoint judges and asks, as it was measured here."""
        task, pairs = self.config.task, zip(items.all, answers, strict=True)
        n_bare = sum(is_bare(task, item, answer.text) for item, answer in pairs)
        return Escalation(
            measure=self._measure,
            n_samples=self._judge.n_samples,
            run=self.deployment.run,
            teacher=self._teacher.name,
            prompt=self._probed.prompt,
            student_tokens=self.config.evaluate.max_new_tokens,
            teacher_tokens=items.max_tokens,
            is_bare=2 * n_bare > len(items.all),
            bundle_sha256=bundle_digest(self._bundle),
        )


def ask_all(
    server: Server,
    judge: Judge,
    items: Sequence[Item],
    max_tokens: int,
    at_once: int,
    tick: Callable[[int], None],
) -> list[StudentAnswer]:
    """Ask a student's server every item, some at once; return the answers in order.

    Raises:
        StudentError: it does not answer.
    """
    import httpx

    async def main() -> list[StudentAnswer]:
        async with httpx.AsyncClient(
            base_url=server.url, timeout=_REQUEST_S, trust_env=False
        ) as client:
            models = (await client.get("/v1/models")).json()
            asking = replace(judge, model=models["data"][0]["id"])
            by_number: dict[int, StudentAnswer] = {}
            waiting = iter(range(len(items)))

            async def worker() -> None:
                for i in waiting:
                    chat = judge.task.student_messages(items[i])
                    by_number[i] = await asking.ask(client, chat, max_tokens)
                    tick(len(by_number))

            await together([worker() for _ in range(min(at_once, len(items)))])
            return [by_number[i] for i in range(len(items))]

    try:
        return asyncio.run(main())
    except StudentError as error:
        end = f"The end of {server.log_path}:\n{server.last_lines()}"
        raise StratosError(f"{error} {end}") from error


def _measure(options: CascadeConfig, run: ServingSetting) -> Measure:
    """Return what tells how sure the student is.

    Raises:
        StratosError: its engine does not tell.
    """
    known = engine_of(run).measures
    if options.measure == "auto" and known:
        return known[0]
    if options.measure in known:
        return options.measure
    raise StratosError(
        f"cascade.measure={options.measure}: {run.engine} does not tell how sure it is of its "
        f"answers{' so' if known else ''}. Type deploy=llamacpp"
        + (f", or cascade.measure={known[0]}." if known else ".")
    )
