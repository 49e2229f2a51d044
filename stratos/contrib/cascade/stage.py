"""The stage: ask the served student validation items, and choose when it asks its teacher."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from stratos.config import Config
from stratos.contrib.cascade.answered import (
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
from stratos.contrib.cascade.choosing_items import (
    answer_limit,
    check_enough,
    choosing_items,
    measuring_items,
)
from stratos.contrib.cascade.config import CascadeConfig, settings
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
from stratos.core.names import named
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
from stratos.teachers.answer_limit import AnswerLimit
from stratos.teachers.base import Teacher
from stratos.teachers.call_budget import price
from stratos.teachers.evaluation_budget import pace_of


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
        price(card, took.input_tokens, took.output_tokens),
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
    options, task = settings(config), config.task
    accuracy = options.accuracy
    assert accuracy is not None
    run = deployment.run
    measure = _measure(options, run)
    teacher, probed = named(config.teachers, plan.teacher), probe.of_teacher(plan.teacher)
    by_teacher = right_by_teacher(context.run_dir, scorecard)
    tested, left_of_test = measuring_items(config, scorecard, by_teacher)
    limit = answer_limit(config, teacher, probed)
    choosing, left_out = choosing_items(config, probe, probed)
    n_samples = options.n_samples if measure == "agreement" else 0
    bundle = Path(deployment.bundle_path)
    facts = [
        bundle_digest(bundle), str(msgspec.json.encode(run)), measure, str(n_samples),
        teacher.name, *teacher.identities(), probed.prompt, str(limit.tokens),
        str(config.evaluate.max_new_tokens),
    ]  # fmt: skip
    look = look_of(context.run_dir, [item.id for item in choosing], facts, None)
    delta = level(1 - options.confidence, look)
    least = n_needed(1.0, accuracy / (1 - left_out), delta) or math.inf
    if len(choosing) < least <= len(tested) // 2:
        choosing, left_out = [], 0.0
    check_enough(len(choosing) or len(tested) // 2, options, look, max(left_out, left_of_test))
    answers = Answers.none()
    if choosing:
        answers = _ask_teacher(config, teacher, probed, choosing, limit, context)
        choosing = [*answers.items]
        by_teacher |= {
            item.id: ByTeacher(score.exact >= 1, took)
            for item, score, took in zip(answers.items, answers.scores, answers.took, strict=True)
        }
    else:
        context.note(
            "cascade: the task has too few validation items that no earlier stage has read; one "
            "half of the test items chooses the threshold."
        )
    items = [*choosing, *tested]
    judge = Judge(
        task, "", measure, n_samples, sampling_of(bundle, run.engine),
    )  # fmt: skip
    log_path = context.run_dir / "cascade" / "server.log"
    context.tick(0, len(items), "server starts")
    with serving_bundle(bundle, run, log_path) as server:
        student_answers = ask_all(
            server, judge, items, config.evaluate.max_new_tokens, run.slots,
            lambda done: context.tick(done, len(items), "student"),
        )  # fmt: skip
    chooses = {item.id for item in choosing}
    pairs = [
        pair_of(
            item.id,
            item.id in chooses if chooses else half(item.question) == 0,
            answer.confidence,
            task.score(answer.text, item).exact >= 1,
            by_teacher[item.id],
            options,
            probed.card,
        )
        for item, answer in zip(items, student_answers, strict=True)
    ]
    slow = slowness([by_teacher[item.id] for item in items], options)
    if slow is not None:
        context.warn(str(slow))
    path = write_pairs(context.run_dir, pairs)
    run_pairs = of_pairs(
        plan, scorecard, deployment, pairs, config.traffic.requests_per_day,
        "validation" if chooses else "test",
    )  # fmt: skip
    chosen_by = [pair for pair in pairs if pair.chooses]
    run_pairs = replace(
        run_pairs,
        look=look_of(
            context.run_dir,
            [pair.id for pair in chosen_by],
            facts,
            [pair.tested(is_exact=measure == "agreement") for pair in chosen_by],
        ),
        n_answers=1 + judge.n_samples,
        n_too_long=run_pairs.n_too_long + answers.n_too_long,
        left_out=max(left_out if chooses else 0.0, left_of_test),
        folder=context.run_dir,
    )
    made = cascade_of(run_pairs, accuracy, options.confidence)
    if not made.is_promised:
        context.warn(f"cascade: {made.text}")
    answered = zip(items, student_answers, strict=True)
    n_bare = sum(is_bare(task, item, answer.text) for item, answer in answered)
    endpoint = Escalation(
        measure=measure,
        n_samples=judge.n_samples,
        run=run,
        teacher=teacher.name,
        prompt=probed.prompt,
        student_tokens=config.evaluate.max_new_tokens,
        teacher_tokens=answers.max_tokens or limit.tokens,
        is_bare=2 * n_bare > len(items),
        bundle_sha256=bundle_digest(bundle),
    )
    seconds = time.perf_counter() - started
    return replace(made, endpoint=endpoint, pairs_path=str(path), seconds=seconds)


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


def _ask_teacher(
    config: Config,
    teacher: Teacher,
    probed: TeacherProbe,
    items: Sequence[Item],
    limit: AnswerLimit,
    context: Context,
) -> Answers:
    if (why := teacher.unreachable()) is not None:
        raise StratosError(f"The teacher {teacher.name} cannot be asked: {why}")
    try:
        return ask_teacher(
            config.task,
            teacher,
            probed.prompt,
            items,
            limit=limit,
            context=context,
            minutes=config.evaluate.teacher_minutes,
            pace=pace_of(probed),
            tick=lambda done, total: context.tick(done, total, "teacher"),
        )
    finally:
        teacher.close()
