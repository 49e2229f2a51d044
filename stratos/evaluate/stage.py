"""The evaluate stage: measure all models on test items that no earlier stage has read.

Cost of 1,000 answers on the planned servers, or from a hosted model:

On a server:  $/hour of one server x hours that it takes for 1,000 answers: in batches, or as the
              server of a student is run, by its engine at its planned utilisation. Tokens
              are those measured on the test items, hours are estimated for the planned server
              (`stratos.estimate`), since the run's own machine is a different one. Waiting for the
              server to start is not counted: this is the price of the next thousand.
On a mix:     the same for each of its offers, weighed by the share of the answers that it gives:
              over the buckets of requests, their share of the traffic x its share of the bucket.
Hosted:       1,000 x ($ per input token x input tokens + the same for output tokens) / answers.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from stratos.config import Config, FitConfig, StudentConfig, TrafficConfig
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.formats import ItemProgress, counted
from stratos.core.values import named
from stratos.estimate.cards import Workload, card_of_student
from stratos.estimate.hours import answers_per_s, batch_hours
from stratos.evaluate.answers import (
    ROLE,
    Answers,
    answers_path,
    ask_folder,
    ask_teacher,
    schemas_of,
    write_answers,
    write_examples,
)
from stratos.evaluate.baselines import (
    FITTING,
    Baseline,
    chance,
    free_baselines,
    labelled_items,
    replayed,
)
from stratos.evaluate.metrics import (
    against,
    by_slice,
    compare,
    confusion,
    field_shares,
    fields_wrong,
    only_answer,
)
from stratos.evaluate.read_log import note_reads
from stratos.evaluate.verdict import HOSTS, against_logged
from stratos.models.decode.label_scores import LabelAnswers
from stratos.models.kinds import load_predictor
from stratos.models.kinds.student_kinds import KINDS
from stratos.models.students import better_student
from stratos.records import (
    Comparison,
    Corpus,
    LoggedVersus,
    ModelCard,
    ModelScore,
    Plan,
    Probe,
    Replay,
    RoleChoice,
    Scorecard,
    Student,
    Versus,
)
from stratos.tasks.base import Item, Score, Task
from stratos.teachers.cost_estimate import n_allowed
from stratos.teachers.prompting import AnswerLimit, prompting

_N_SAMPLES = 6
"""Answers that are shown while the run works."""


def evaluate(
    config: Config,
    probe: Probe,
    plan: Plan,
    corpus: Corpus,
    student: Student,
    context: Context,
) -> Scorecard:
    """Score student, teacher, baselines and, of a pretrained student, its untouched twin.

    The student answers `evaluate.n_items` items; teacher and untouched student a random part of
    them (the smaller part within the larger), so that they can be compared item by item; the
    teacher as many as money and time allow. No ratio to a teacher is stated of whose answers too
    many were cut short. All of the student's answers lie in
    `evaluate/answers.jsonl` of the run folder, those of all models side by side in
    `evaluate/examples.jsonl`.

    Raises:
        StratosError: the task has no test items.
    """
    started = time.perf_counter()
    evaluation = _Evaluation(config, probe, plan, corpus, student, context)
    by_student = evaluation.ask_student()
    constrained = evaluation.ask_constrained()
    by_untouched = evaluation.ask_untouched()
    by_teacher = evaluation.ask_teacher(by_student)
    logged = evaluation.compare_with_log(by_student)
    scored = evaluation.score(by_student, constrained, by_untouched, by_teacher)
    if not any(score.exact for score in by_student.scores):
        context.warn(_nothing_learnt(config, corpus, student, by_student))
    by_model = {"student": by_student, "teacher": by_teacher, "untouched": by_untouched}
    examples = write_examples(context.run_dir, evaluation.items_shared_first(), by_model)
    for score in scored.scores:
        for row in score.slices:
            context.log({f"evaluate/{score.role}/{row.slice}/exact": row.exact.mean})
    return Scorecard(
        task=config.task.name,
        metric=config.task.metric_name,
        scores=scored.scores,
        comparison=scored.comparison,
        examples_path=str(examples),
        answers_path=str(answers_path(context.run_dir)),
        seconds=time.perf_counter() - started,
        against=scored.against,
        seed=config.seed,
        earlier_reads=evaluation.reads,
        logged=logged,
        known=_known(config, probe, plan),
    )


def _known(config: Config, probe: Probe, plan: Plan) -> float | None:
    """Return what the student has right of wordings that rows show, where the test has others."""
    kind = probe.of_kind(plan.student)
    return None if kind is None or config.task.tests_other_rows else kind.known


@dataclass(frozen=True)
class _Scored:
    """The scores of all models and baselines, and the student against each."""

    scores: tuple[ModelScore, ...]
    against: tuple[Versus, ...]
    comparison: Comparison | None
    """With the teacher, unless too many of its answers were cut short."""


class _Evaluation:
    """The test items, and who answers which of them."""

    def __init__(
        self,
        config: Config,
        probe: Probe,
        plan: Plan,
        corpus: Corpus,
        student: Student,
        context: Context,
    ) -> None:
        self._config, self._probe, self._plan = config, probe, plan
        self._corpus, self._student, self._context = corpus, student, context
        task, options = config.task, config.evaluate
        self._items = items = task.items("test", options.n_items, config.seed)
        if not items:
            raise StratosError(
                f"Task {task.name} has no test items, so nothing can be measured: give it some, or "
                "leave the stage out with stages=[probe,plan,synthesize,distill]."
            )
        # A language model would take as long again as for the test.
        self._walks = None if student.is_lm else task.conversations(config.seed)
        walked = () if self._walks is None else self._walks.items
        read = [*{item.id: item for item in (*items, *walked)}.values()]
        self.reads = note_reads(context.cache_dir, context.run_dir, student.weights_sha256, read)
        n_teacher = n_allowed(probe.of_teacher(plan.teacher), options, config.limits, task)
        n_shared = max(n_teacher, options.n_untouched_items)
        self._shared = _subset(items, n_shared, config.seed)
        self._teacher_items = self._shared[:n_teacher]
        # Random weights write noise, whose score says nothing.
        is_pretrained = student.is_lm and named(config.students, plan.student).path is not None
        self._untouched_items = self._shared[: options.n_untouched_items * is_pretrained]
        self._schemas = schemas_of(task, options, corpus, items, context)
        self._side_test = task.side_test(items, config.seed)
        self._beside = [] if self._side_test is None else self._side_test.items
        n_others = len(self._untouched_items) + len(self._teacher_items) + len(self._beside)
        self._ticks = _Ticks(context, len(items) + len(self._schemas) + n_others)
        labels = LabelAnswers.read(Path(student.path))
        if task.has_labels and not task.has_several_labels and student.is_lm and labels is None:
            context.note("The student reasons before it answers: it may write what is no label.")
        self._ask = partial(
            ask_folder,
            task,
            batch_size=options.batch_size,
            decoder=options.decoder,
            labels=labels,
            max_new_tokens=options.max_new_tokens,
        )

    def ask_student(self) -> Answers:
        """Ask the student all test items."""
        tick = self._ticks.part("student", len(self._items))
        path = Path(self._student.path)
        answers = self._ask(path, self._items, tick=tick, with_logprobs=True)
        if answers.decoding is not None and (reason := answers.decoding.complaint):
            self._context.warn(str(reason))
        self._context.log(_exact("student", answers))
        for answered in answers.pairs()[:_N_SAMPLES]:
            item, is_right = answered.item, answered.score.exact == 1
            self._context.sample(
                self._student.name, item.question, item.answer, answered.text, is_right
            )
        write_answers(self._context.run_dir, self._config.task, answers)
        return answers

    def ask_constrained(self) -> Answers | None:
        """Ask the student again, held to the schema; None where there is none or it cannot be."""
        if not self._schemas:
            return None
        tick = self._ticks.part("student, constrained", len(self._schemas))
        path = Path(self._student.path)
        try:
            answers = self._ask(path, self._items, tick=tick, schemas=self._schemas)
        except ValueError as error:  # a tokenizer that llguidance cannot read
            self._context.warn(f"Decoding is not constrained: {error}")
            return None
        self._context.log(_exact(ROLE, answers))
        return answers

    def ask_untouched(self) -> Answers:
        """Ask the pretrained student as it was before its training."""
        if not self._untouched_items:
            return Answers.none()
        tick = self._ticks.part("untouched student", len(self._untouched_items))
        answers = self._ask(Path(self._student.untouched_path), self._untouched_items, tick=tick)
        self._context.log(_exact("untouched", answers))
        return answers

    def ask_teacher(self, by_student: Answers) -> Answers:
        """Ask the planned teacher as many items as money and time allow."""
        items = self._teacher_items
        if not items:
            return Answers.none()
        tick = self._ticks.part("teacher", len(items))
        answers = _ask_planned_teacher(
            self._config, self._probe, self._plan, items, self._context, tick, by_student
        )
        self._context.log(_exact("teacher", answers))
        return answers

    def compare_with_log(self, by_student: Answers) -> LoggedVersus | None:
        """Compare the student with a logged model; None where the task has no log."""
        if self._side_test is None:
            return None
        beside = Answers.none()
        if self._beside:
            tick = self._ticks.part("student", len(self._beside))
            path = Path(self._student.path)
            beside = self._ask(path, self._beside, tick=tick, with_logprobs=True)
        logged = self._side_test.compare(by_student.pairs(), beside.pairs())
        self._context.note(against_logged(logged))
        return logged

    def score(
        self,
        by_student: Answers,
        constrained: Answers | None,
        by_untouched: Answers,
        by_teacher: Answers,
    ) -> _Scored:
        """Score all models and the free baselines; compare the student with each."""
        config, plan, student, task = self._config, self._plan, self._student, self._config.task
        of_student = dict(zip((item.id for item in self._items), by_student.scores, strict=True))

        def versus(score: ModelScore, items: Sequence[Item], scored: Sequence[Score]) -> Versus:
            return against(score, [of_student[item.id] for item in items], scored)

        free = self._baselines()
        own = _student_score(task, config.students, config.traffic, plan, student, by_student)
        scores = [replace(own, replay=self._replay())]
        compared = [
            replace(
                versus(baseline.score, self._items, baseline.scores),
                hosted_by=_host(baseline.score.role, task),
            )
            for baseline in free
            if HOSTS.get(baseline.score.role) != student.kind  # which is no rival of itself
        ]
        if by_untouched.items:
            untouched = _model_score(task, "untouched", f"{student.name}, untouched", by_untouched)
            scores.append(untouched)
            compared.append(versus(untouched, by_untouched.items, by_untouched.scores))
        if constrained is not None:
            name = f"{student.name}, constrained by the schema"
            scores.append(_model_score(task, ROLE, name, constrained))
        comparison = None
        if by_teacher.items:
            teacher = _teacher_score(task, config.traffic, self._probe, plan, by_teacher)
            scores.append(teacher)
            compared.append(versus(teacher, by_teacher.items, by_teacher.scores))
            if not teacher.is_cut_short:
                both = [of_student[item.id] for item in by_teacher.items]
                comparison = compare(both, by_teacher.scores)
        scores += [*(baseline.score for baseline in free), chance(task, self._items)]
        return _Scored(tuple(scores), tuple(compared), comparison)

    def _baselines(self) -> list[Baseline]:
        """Return what is free, learnt from all rows that are no test rows.

        A language model only stops by the validation rows. Who has a free classifier in its place
        gives it these rows, too, so it is not weaker beside one student than beside another.
        """
        from stratos.models.kinds.learnt_rows import validation_rows  # imports scipy

        total = self._ticks.total
        fitting = partial(self._context.tick, total, total, FITTING)
        fitting()
        validation = validation_rows(self._config)
        learnt = labelled_items(self._config.task, Path(self._corpus.path), validation)
        task = self._config.task
        baselines = free_baselines(task, learnt, self._items, fitting)
        if self._walks is None or not baselines:
            return baselines
        replays = replayed(task, learnt, self._walks)
        return [
            replace(b, score=replace(b.score, replay=replays.get(b.score.role))) for b in baselines
        ]

    def _replay(self) -> Replay | None:
        """Return how far the student comes in whole conversations."""
        if self._walks is None:
            return None
        student = load_predictor(Path(self._student.path))
        return self._walks.replay(
            lambda items: [answer.text for answer in student.predict([i.question for i in items])]
        )

    def items_shared_first(self) -> list[Item]:
        """Return the test items; those that others answered, too, come first."""
        shared_ids = {item.id for item in self._shared}
        return [*self._shared, *(item for item in self._items if item.id not in shared_ids)]


def _exact(role: str, answers: Answers | None) -> dict[str, float]:
    """Return what is tracked as soon as a model has answered; {} where it answered nothing."""
    if answers is None or not answers.scores:
        return {}
    n = len(answers.scores)
    return {f"{role}/exact": sum(score.exact for score in answers.scores) / n}


def _nothing_learnt(config: Config, corpus: Corpus, student: Student, answers: Answers) -> str:
    """Say that no test item was answered right, with the likely causes that the records show."""
    n_cut = sum(n >= config.evaluate.max_new_tokens for n in answers.tokens)
    causes = [
        f"{counted(corpus.n_items, 'training item', spec=',')} (more rows, or strategy.n_items)",
        f"{counted(student.train_tokens, 'token', spec=',')} of training (trainer.max_tokens)",
    ]
    chosen = named(config.students, student.name)
    if chosen.path is None and student.is_lm:
        causes.append("its random weights")
    if n_cut:
        cut = counted(n_cut, "answer", spec=",")
        causes.append(f"{cut} as long as allowed (evaluate.max_new_tokens)")
    return (
        f"{student.name} answered none of {counted(len(answers.items), 'test item', spec=',')} "
        f"right, so it shows no learning. Likely causes: {', '.join(causes)}. What may help: "
        f"{better_student(config, chosen)}."
    )


def _subset(items: Sequence[Item], n: int, seed: int) -> list[Item]:
    """Draw `n` items at random, without replacement (all of them where there are no more)."""
    return random.Random(seed).sample(list(items), min(n, len(items)))


def _ask_planned_teacher(
    config: Config,
    probe: Probe,
    plan: Plan,
    items: Sequence[Item],
    context: Context,
    tick: Callable[[int, int], None],
    by_student: Answers,
) -> Answers:
    teacher = named(config.teachers, plan.teacher)
    probed = probe.of_teacher(plan.teacher)
    prompt = probed.prompt
    limit = prompting(teacher, config.task).limit(prompt, config.probe.max_tokens)
    if not limit.is_fixed and probed.max_tokens:
        limit = AnswerLimit(probed.max_tokens, "as in the probe", is_fixed=probed.is_cut_short)
    try:
        return ask_teacher(
            config.task,
            teacher,
            prompt,
            items,
            limit=limit,
            context=context,
            minutes=config.evaluate.teacher_minutes,
            tick=tick,
            by_student=by_student,
        )
    finally:
        teacher.close()


def _model_score(task: Task, role: str, name: str, answers: Answers) -> ModelScore:
    read = [task.parse(text) for text in answers.texts]
    return ModelScore(
        role=role,
        name=name,
        slices=by_slice(answers.items, answers.scores, task.groups_of(answers.items)),
        input_tokens=answers.input_tokens,
        output_tokens=sum(answers.tokens),
        seconds=answers.seconds,
        cpu_seconds=answers.cpu_seconds,
        max_tokens=answers.max_tokens,
        n_truncated=answers.n_truncated,
        n_too_long=answers.n_too_long,
        wall_seconds=answers.wall_seconds,
        n_cached=answers.n_cached,
        fields=field_shares(task, answers.items, read),
        fields_wrong=fields_wrong(task, answers.items, read),
        labels=confusion(answers.items, read),
        decoder="" if answers.decoding is None else answers.decoding.used,
        only_answer=only_answer(answers.items, answers.texts, answers.scores),
    )


def _host(role: str, task: Task) -> str:
    """Return the student that is a baseline; "" where none is, or it does not do the task."""
    kind = HOSTS.get(role, "")
    return kind if kind and KINDS[kind].does(task) else ""


def _student_score(
    task: Task,
    students: Sequence[StudentConfig],
    traffic: TrafficConfig,
    plan: Plan,
    student: Student,
    answers: Answers,
) -> ModelScore:
    chosen = named(students, plan.student)
    score = _model_score(task, "student", student.name, answers)
    if not student.is_lm:
        from stratos.models.kinds.cross_validation import calibration_error

        confidence = np.exp(np.array(answers.logprobs))
        right = np.array([score.exact >= 1.0 for score in answers.scores])
        return replace(
            score,
            usd_per_1000=usd_per_1000_of_kind(plan.roles_of("serve")),
            n_params=student.n_params,
            calibration_error=calibration_error(confidence, right),
        )
    if chosen.path is None:  # it may have come to read in its teacher's tokens
        facts = json.loads((Path(student.path) / "config.json").read_text(encoding="utf-8"))
        chosen = replace(chosen, vocab_size=facts["vocab_size"])
    elif chosen.fit.cuts:
        chosen = replace(chosen, path=student.path, fit=FitConfig())
    card = card_of_student(chosen, task)
    usd = _usd_per_1000(traffic, card, plan.roles_of("serve"), answers)
    return replace(score, usd_per_1000=usd, n_params=student.n_params)


def _teacher_score(
    task: Task, traffic: TrafficConfig, probe: Probe, plan: Plan, answers: Answers
) -> ModelScore:
    """Score the teacher, priced by its host, or else on the server that the plan has for it.

    Its multiple choice is the probe's, on validation items: asking the long few-shot prompts of a
    second question for every test item would double the teacher's cost for a number that says
    the same.
    """
    probed = probe.of_teacher(plan.teacher)
    # A plan that asks the teacher nothing rents it no server: then it is priced where the student
    # would be served.
    role = "teacher" if plan.role("teacher").offer is not None else "serve"
    score = _model_score(task, "teacher", plan.teacher, answers)
    choice = probed.choice.mean if probed.choice.is_share_known else None
    *slices, overall = score.slices
    return replace(
        score,
        slices=(*slices, replace(overall, choice=choice)),
        usd_per_1000=_usd_per_1000(traffic, probed.card, plan.roles_of(role), answers),
        n_params=probed.card.n_params,
    )


def _usd_per_1000(
    traffic: TrafficConfig, card: ModelCard, choices: Sequence[RoleChoice], answers: Answers
) -> float | None:
    return usd_per_1000(
        card,
        choices,
        input_tokens=answers.input_tokens,
        cached_input_tokens=sum(took.cached_input_tokens for took in answers.took),
        output_tokens=sum(answers.tokens),
        n_answers=len(answers.items),
        bucket_shares=[bucket.share for bucket in traffic.buckets],
    )


class _Ticks:
    """Progress of several parts as one."""

    def __init__(self, context: Context, total: int) -> None:
        self._context, self.total, self._before = context, total, 0
        self._progress = ItemProgress()

    def part(self, name: str, n: int) -> Callable[[int, int], None]:
        """Return the progress of the next part, which has `n` items."""
        before = self._before
        self._before += n

        def tick(done: int, total: int) -> None:
            text = self._progress.text(name, done, total)
            self._context.tick(before + done, self.total, text)

        return tick


def usd_per_1000_of_kind(choices: Sequence[RoleChoice]) -> float | None:
    """Return the dollars for 1,000 answers of a student that is no language model."""
    hourly = sum(choice.usd / choice.hours for choice in choices if choice.hours)
    rate = sum(
        choice.count * sum(choice.run.requests_per_s)
        for choice in choices
        if choice.run is not None
    )
    return 1000 * hourly / (3600 * rate) if rate else None


def usd_per_1000(
    card: ModelCard,
    choices: Sequence[RoleChoice],
    *,
    input_tokens: int,
    output_tokens: int,
    n_answers: int,
    cached_input_tokens: int = 0,
    bucket_shares: Sequence[float] = (),
) -> float | None:
    """Return the dollars for 1,000 answers, given the tokens that `n_answers` took.

    None where the model has no price and no server is planned for it.

    Args:
        card: the model.
        choices: the servers of its role, several where serving mixes offers.
        input_tokens: of all answers together.
        output_tokens: of all answers together.
        n_answers: how many.
        cached_input_tokens: of the input tokens those that the endpoint had read before.
        bucket_shares: weight of each bucket of requests; none where there is one bucket.
    """
    if not n_answers:
        return None
    mean_input, mean_output = input_tokens / n_answers, output_tokens / n_answers
    if card.usd_per_million_input_tokens is not None or card.usd_per_million_output_tokens:
        usd = card.input_usd(mean_input, cached_input_tokens / n_answers)
        return 1000 * (usd + (card.usd_per_million_output_tokens or 0.0) / 1e6 * mean_output)
    work = Workload(prompt_tokens=mean_input, answer_tokens=mean_output)
    weights = [_weight(choice, bucket_shares) for choice in choices]
    usd = 0.0
    for choice, weight in zip(choices, weights, strict=True):
        if choice.offer is None:
            return None
        usd_per_hour = choice.offer.usd_per_hour
        if choice.spot and choice.offer.usd_per_hour_spot is not None:
            usd_per_hour = choice.offer.usd_per_hour_spot
        usd += weight / sum(weights) * usd_per_hour * _hours_per_1000(card, choice, work)
    return usd


def _hours_per_1000(card: ModelCard, choice: RoleChoice, work: Workload) -> float:
    """Return the hours of one server of a choice for 1,000 answers."""
    assert choice.offer is not None
    if choice.run is not None:
        return 1000 / answers_per_s(card, choice.offer, work, choice.run) / 3600
    # The second thousand: the first one waits for the server.
    first, both = (batch_hours(card, choice.offer, work, n) for n in (1000, 2000))
    return both - first


def _weight(choice: RoleChoice, bucket_shares: Sequence[float]) -> float:
    """Return the weight of the answers that servers give; 1 where one offer gives them all."""
    if not choice.traffic:
        return 1.0
    shares = bucket_shares or (1.0,) * len(choice.traffic)
    return sum(share * part for share, part in zip(shares, choice.traffic, strict=True))
