"""The model card: what the student is, how it was made and measured, and how to run it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import jinja2
import yaml

from stratos.config import Config
from stratos.core.formats import counted, cut_short, least, listed, most
from stratos.core.names import named
from stratos.deploy.bundle_server import serve_command
from stratos.deploy.engines.base import EXPORTS
from stratos.deploy.engines.known import engine_named
from stratos.deploy.predictor_card import PredictorCard
from stratos.evaluate.answer_files import KeptAnswer, room_for_answers
from stratos.evaluate.format_verdict import said as format_verdict
from stratos.evaluate.read_log import reads_of_run, said
from stratos.evaluate.verdict import verdict
from stratos.records import (
    Corpus,
    Deployment,
    Exports,
    Interval,
    LoadResult,
    ModelScore,
    Pilot,
    Plan,
    Prediction,
    Probe,
    Scorecard,
    Student,
    TriedRate,
)
from stratos.tasks.base import Task

_MARK = 16
"""Characters beside an answer that only announce it: The answer is: ..."""
_REASONING = (
    " Its\nreasoning is written before the answer and can be wrong where the answer is right, or "
    "the reverse."
)

MOST_LABELS = 20
"""Labels of a task that the card names."""
_ROLES = {
    "student": "this model",
    "constrained": "this model, decoding constrained by the schema",
    "teacher": "teacher",
    "untouched": "this model before training",
    "majority": "most frequent answer",
    "lookup": "answer of the nearest training item",
    "linear": "TF-IDF with logistic regression",
    "chance": "random guess",
}


def model_card(
    config: Config,
    plan: Plan,
    scorecard: Scorecard,
    student: Student,
    corpus: Corpus | None,
    answers: Sequence[KeptAnswer],
    probe: Probe | None = None,
    pilot: Pilot | None = None,
    n_rows_learnt: int = 0,
) -> str:
    """Return the text of the card, with its YAML front matter.

    Args:
        config: of the run.
        plan: names teacher, student and strategy.
        scorecard: the measurements.
        student: what was trained.
        corpus: what it was trained on, if its record is at hand.
        answers: the student's, to test items: the first right one is the example for the commands.
        probe: what was read before the plan, if its record is at hand.
        pilot: short trainings before the plan, if there were any.
        n_rows_learnt: rows that the bundle's student has learnt, those of the test among them; 0
            where it is the one that was measured.
    """
    start = named(config.students, plan.student)
    example = next((answer for answer in answers if answer.score.exact >= 1), answers[0])
    max_tokens = room_for_answers(answers, config.evaluate.max_new_tokens)
    request = {"model": ".", "messages": example.messages, "max_tokens": max_tokens}
    predictor = PredictorCard.of(Path(student.path), answers)
    if predictor is not None:
        request["logprobs"] = True
    earlier_reads = scorecard.earlier_reads
    return _template("card.md.jinja").render(
        name=card_name(config, student),
        front=_front_matter(scorecard, card_name(config, student), start.license, predictor),
        predictor=predictor,
        n_rows_learnt=n_rows_learnt,
        question=json.dumps(example.messages[-1]["content"], ensure_ascii=False),
        student=student,
        scorecard=scorecard,
        plan=plan,
        corpus=corpus,
        start=start,
        seed=config.seed,
        source=_learnt_from(config, plan, corpus),
        verdict=verdict(scorecard),
        cut_short=_cut_short(scorecard),
        comparison=scorecard.comparison,
        reads=reads_of_run(probe, pilot, student, scorecard),
        earlier_reads="" if earlier_reads is None else said(earlier_reads),
        rows=_rows(config.task),
        sources="" if corpus is None else _amounts(corpus.n_by_source),
        slices=_amounts(corpus.n_by_slice) if corpus and len(corpus.n_by_slice) > 1 else "",
        refused="" if corpus is None else _amounts({w: n for w, n in corpus.refused.items() if n}),
        instruction="" if start.path is None or predictor else config.task.system_prompt,
        example=example,
        chat=json.dumps(example.messages),
        max_tokens=max_tokens,
        serve_command=serve_command("."),
        request=shlex.quote(json.dumps(request)),
        reasoning=_REASONING if _writes_reasoning(config, answers) else "",
    )


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        counted=counted,
        fenced=_fenced,
        least=least,
        listed=listed,
        model_name=_model_name,
        most=most,
        ms=_ms,
        rate="{:.3g}".format,
        share=_share,
        shown=format_verdict,
        whole="{:,}".format,
    )
    environment.filters["short_ms"] = _short_ms
    return environment.get_template(name)


def card_name(config: Config, student: Student) -> str:
    """Return the name of the model: task and student."""
    return f"{config.task.name}-{student.name}"


def _front_matter(
    scorecard: Scorecard, name: str, license_name: str, predictor: PredictorCard | None
) -> str:
    score = scorecard.score("student")
    kind = "text-generation" if predictor is None else predictor.task
    result = {
        "task": {"type": kind},
        "dataset": {"type": scorecard.task, "name": f"{scorecard.task}, test split"},
        "metrics": [
            {
                "type": scorecard.metric,
                "name": f"{scorecard.metric} ({row.slice})",
                "value": round(row.exact.mean, 4),
            }
            for row in (score.rows if score is not None else ())
        ],
    }
    front = {
        "license": license_name.lower(),
        "library_name": "stratos" if predictor and predictor.description else "transformers",
        "pipeline_tag": kind,
        "tags": ["distillation", "stratos", scorecard.task],
        "model-index": [{"name": name, "results": [result]}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _amounts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


def _cut_short(scorecard: Scorecard) -> str:
    """Say whose answers were cut at the longest length, and whether that leaves a doubt."""
    cut = [score for score in scorecard.scores if score.n_truncated]
    if not cut:
        return ""
    truncated = ", ".join(
        f"{_model_name(score)} {cut_short(score.n_truncated, score.slice().n_items)}"
        for score in cut
    )
    doubt = any(score.is_cut_short for score in cut)
    more = " Where more than 1 in 20 are, the accuracy may be higher than is measured."
    return f"Answers that ended at the longest length: {truncated}.{more if doubt else ''}"


def _model_name(score: ModelScore) -> str:
    role = _ROLES.get(score.role, score.role)
    if score.role != "teacher":
        return role
    size = f" ({score.n_params:,} parameters)" if score.n_params else ""
    return f"{role}, {score.name}{size}"


def _share(exact: Interval) -> str:
    if exact.low == exact.high:
        return f"{exact.mean:.1%}"
    return f"{exact.mean:.1%} [{exact.low:.1%}, {exact.high:.1%}]"


@dataclass(frozen=True)
class _Source:
    """What a student learned from."""

    text: str
    is_teacher: bool
    """Whether a teacher had a part in it."""


def _learnt_from(config: Config, plan: Plan, corpus: Corpus | None) -> _Source:
    """Say what the student learned from: a teacher that was asked nothing is none of it."""
    teacher = named(config.teachers, plan.teacher)
    of_teacher = _Source(f"Teacher: {teacher.name} (licence: {teacher.card().license}).", True)
    # A plan that was read from its record may name a strategy that the config has no more.
    strategy = next((s for s in config.strategies if s.name == plan.strategy), None)
    if strategy is None or not (strategy.learns_rows or strategy.makes_questions):
        return of_teacher
    if corpus is None:
        writes = strategy.writes_reasoning or strategy.words_questions
        is_asked = strategy.adds_rows or writes
    else:
        is_asked = corpus.teacher_tokens > 0
    if is_asked:
        return of_teacher
    rows = (
        "the answers in the labelled rows of the task's file"
        if strategy.learns_rows
        else "questions that the task makes from known answers"
    )
    return _Source(f"Learned from: {rows}. No teacher's answer was used.", False)


def _rows(task: Task) -> str:
    """Say where the rows are from, and their labels; "" where the task makes its own."""
    if not task.rows_name:
        return ""
    labels = [f"`{label}`" for label in task.all_labels]
    shown = listed(labels[:MOST_LABELS]) if labels else ""
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return f"- Rows: `{task.rows_name}`{f'; labels: {shown}{more}' if shown else ''}."


def _fenced(text: str) -> str:
    """Return a code block that no text can end early."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}\n"


def _writes_reasoning(config: Config, answers: Sequence[KeptAnswer]) -> bool:
    """Return whether most answers that can be read have more text than an answer and its mark."""
    read = [(one.text.strip(), config.task.parse(one.text)) for one in answers]
    longer = [len(text) > len(answer) + _MARK for text, answer in read if answer is not None]
    return 2 * sum(longer) > len(longer)


# Serving speed on this machine, as sentences for report and card.


def sentences(deployment: Deployment) -> list[str]:
    """Say how fast the bundle was, and whether that is as predicted."""
    load = deployment.load
    planned = None if load is None else load.planned_per_s
    text = _template("speed.jinja").render(
        deployment=deployment,
        served=deployment.served,
        predicted=partial(_predicted, busy=deployment.was_busy),
        broken=[] if load is None else list(_broken(load)),
        beside_plan="" if load is None or planned is None else _beside_plan(load, planned),
    )
    return text.splitlines()


def _beside_plan(load: LoadResult, planned: float) -> str:
    """Say how the rate that was tested stands to the plan's."""
    if load.requests_per_s >= planned * 0.999:
        if load.kept_up and load.holds_limit:
            return "this machine keeps up with that"
        return "this machine does not hold that"
    if load.capacity_per_s <= planned:
        return (
            f"the capacity of this machine is {load.capacity_per_s:.3g}, and it was tested at "
            f"{load.requests_per_s:.3g}"
        )
    return f"this machine was tested at {load.requests_per_s:.3g}"


def _broken(load: LoadResult) -> Iterator[tuple[TriedRate, list[str]]]:
    """Yield the rates that were not held, each with what went wrong."""
    for tried in load.tries:
        why = [] if tried.kept_up else ["it did not keep up"]
        if tried.n_errors:
            why.append(f"{tried.n_errors:,} of {tried.n_requests:,} requests failed")
        if load.limit_ms is not None and tried.latency_p95_ms > load.limit_ms:
            why.append(
                f"p95 {_ms(tried.latency_p95_ms)} is above limits.latency_ms={load.limit_ms:g}"
            )
        if why:
            yield tried, why


def _short_ms(milliseconds: float) -> str:
    return _ms(milliseconds) if milliseconds >= 10 else f"{milliseconds:.2g} ms"


def with_speed(card: str, deployment: Deployment) -> str:
    """Return the model card with what the server showed, before its limits."""
    said = sentences(deployment)
    if not said:
        return card
    section = "\n".join(
        ["## Speed", "", "Served on the machine of the run; other machines may differ.", "",
         *(f"- {one}" for one in said), "", ""]
    )  # fmt: skip
    return _before_limits(card, section)


def _predicted(one: Prediction, written: Callable[[float], str], busy: bool) -> str:
    low, high = written(one.predicted.low), written(one.predicted.high)
    verdict = "as predicted" if one.is_inside else "NOT as predicted"
    return f"{'predicted' if busy else verdict}: {low} to {high} ({one.predicted.source})"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3g} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"


def with_exports(card: str, exports: Exports | None) -> str:
    """Return the model card with the table of exports, before its limits."""
    if exports is None:
        return card
    kept = [export.format for export in exports.formats if export.is_kept]
    section = _template("exports.md.jinja").render(
        exports=exports,
        engine=engine_named(exports.engine),
        folder=EXPORTS,
        served=exports.served or kept[-1] if kept else "",
    )
    return _before_limits(card, section)


def _before_limits(card: str, section: str) -> str:
    before, limits, after = card.partition("## Limits")
    return f"{before}{section}{limits}{after}"
