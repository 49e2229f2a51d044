"""The model card: what the student is, how it was made and measured, and how to run it."""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from stratos.config import Config
from stratos.core.formats import counted, cut_short, least, listed, most, visible
from stratos.core.values import named
from stratos.deploy.bundle_server import serve_command
from stratos.deploy.engines.base import EXPORTS, engine_named
from stratos.deploy.engines.predictor import LabelServer, server_of
from stratos.deploy.final_student import FinalStudent
from stratos.estimate.constants import BYTES_PER_PARAM_BUNDLE
from stratos.evaluate.answers import KeptAnswer, room_for_answers
from stratos.evaluate.read_log import describe_reads, reads_of_run
from stratos.evaluate.verdict import format_in_words, verdict, whole_conversations
from stratos.models.kinds.base import FILE, has_labels, predictor_class
from stratos.records import (
    Corpus,
    Deployment,
    Exports,
    Interval,
    LoadResult,
    ModelScore,
    Pilot,
    Plan,
    PlanPoint,
    Probe,
    Scorecard,
    Student,
    TriedRate,
)
from stratos.synthesize.strategy import Strategy
from stratos.tasks.base import Task
from stratos.teachers.base import Teacher

_MARK = 16
"""Characters beside an answer that only announce it: The answer is: ..."""
TERMS = Path(__file__).parents[1] / "teachers" / "terms.csv"
"""What licences say of training another model on a teacher's answers: clause, version, source."""
MOST_LABELS = 20
"""Labels of a task that the card names."""
_ROLES = {
    "student": "this model",
    "constrained": "this model, decoding constrained by the schema",
    "teacher": "teacher",
    "untouched": "this model before training",
    "majority": "most frequent answer",
    "situation": "most frequent answer in the same situation",
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
    final: FinalStudent | None = None,
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
        final: what is served; None for the student that was measured.
    """
    start = named(config.students, plan.student)
    example = next((answer for answer in answers if answer.score.exact >= 1), answers[0])
    max_tokens = room_for_answers(answers, config.evaluate.max_new_tokens)
    body = config.task.request_of(example.messages) or {"messages": example.messages}
    request = {"model": ".", **body, "max_tokens": max_tokens}
    predictor = _predictor(Path(student.path), answers)
    teacher = _teacher(config.teachers, config.strategies, plan, corpus)
    if predictor is not None:
        request["logprobs"] = True
    earlier_reads = scorecard.earlier_reads
    return _template("card.md.jinja").render(
        name=card_name(config.task, student),
        front=_front_matter(scorecard, card_name(config.task, student), start.license, predictor),
        predictor=predictor,
        n_rows_learnt=0 if final is None else final.n_rows,
        agrees="" if final is None or not final.n_rows else str(final.note),
        question=_in_json(example.messages[-1]["content"]),
        student=student,
        scorecard=scorecard,
        plan=plan,
        corpus=corpus,
        start=start,
        seed=config.seed,
        task=config.task,
        teacher=teacher,
        terms=None if teacher is None else terms_of(teacher.card().license),
        learns_rows=any(s.learns_rows for s in config.strategies if s.name == plan.strategy),
        verdict=verdict(scorecard),
        whole_conversations=whole_conversations(scorecard),
        reads=reads_of_run(probe, pilot, student, scorecard),
        earlier_reads="" if earlier_reads is None else describe_reads(earlier_reads),
        instruction="" if start.path is None or predictor else config.task.system_prompt,
        example=example,
        chat=json.dumps(example.messages),
        max_tokens=max_tokens,
        serve_command=serve_command("."),
        request=shlex.quote(json.dumps(request)),
        writes_reasoning=_writes_reasoning(config.task, answers),
    )


def _in_json(text: str) -> str:
    """Return a text as JSON, in which what nobody can see is escaped."""
    whole = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in whole)


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
    )
    environment.globals.update(
        amounts=_amounts,
        counted=counted,
        cut_short=cut_short,
        fenced=_fenced,
        least=least,
        listed=listed,
        model_name=_model_name,
        most=most,
        most_labels=MOST_LABELS,
        ms=_ms,
        rate="{:.3g}".format,
        share=_share,
        shown=format_in_words,
        whole="{:,}".format,
    )
    environment.filters["short_ms"] = _short_ms
    return environment.get_template(name)


def card_name(task: Task, student: Student) -> str:
    """Return the name of the model: task and student."""
    return f"{task.name}-{student.name}"


def _front_matter(
    scorecard: Scorecard, name: str, license_name: str, predictor: Mapping[str, Any] | None
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    score = scorecard.score("student")
    kind = "text-generation" if predictor is None else predictor["task"]
    results = [
        EvalResult(
            task_type=kind,
            dataset_type=scorecard.task,
            dataset_name=f"{scorecard.task}, test split",
            metric_type=scorecard.metric,
            metric_name=f"{scorecard.metric} ({row.slice})",
            metric_value=round(row.exact.mean, 4),
        )
        for row in (score.rows if score is not None else ())
    ]
    data = ModelCardData(
        license=license_name.lower(),
        library_name="stratos" if predictor and not predictor["is_lm"] else "transformers",
        pipeline_tag=kind,
        tags=["distillation", "stratos", scorecard.task],
        model_name=name,
        eval_results=results,
    )
    return f"{data.to_yaml()}\n"


def _teacher(
    teachers: Sequence[Teacher],
    strategies: Sequence[Strategy],
    plan: Plan,
    corpus: Corpus | None,
) -> Teacher | None:
    """Return the teacher that the student learned from; None where none was asked anything."""
    teacher = named(teachers, plan.teacher)
    # A plan that was read from its record may name a strategy that the config has no more.
    strategy = next((s for s in strategies if s.name == plan.strategy), None)
    if strategy is None or not (strategy.learns_rows or strategy.makes_questions):
        return teacher
    if corpus is not None:
        return teacher if corpus.teacher_tokens else None
    writes = strategy.writes_reasoning or strategy.words_questions
    return teacher if strategy.adds_rows or writes else None


def terms_of(license_name: str) -> Mapping[str, str] | None:
    """Return what a licence says of training on answers; None where the table has no line."""
    with TERMS.open(encoding="utf-8", newline="") as file:
        return next((row for row in csv.DictReader(file) if row["license"] == license_name), None)


def _writes_reasoning(task: Task, answers: Sequence[KeptAnswer]) -> bool:
    """Return whether most answers that can be read have more text than an answer and its mark."""
    read = [(answer.text.strip(), task.parse(answer.text)) for answer in answers]
    longer = [len(text) > len(parsed) + _MARK for text, parsed in read if parsed is not None]
    return 2 * sum(longer) > len(longer)


def _predictor(folder: Path, answers: Sequence[KeptAnswer]) -> dict[str, Any] | None:
    """Return what the card says of a student that predicts; None of one that writes."""
    is_lm = has_labels(folder)
    engine = LabelServer() if is_lm else server_of(folder)
    if engine is None:
        return None
    import numpy as np

    from stratos.models.kinds.classifier import block_class
    from stratos.models.kinds.cross_validation import calibration_error

    kind = predictor_class(folder)
    facts = {} if is_lm else json.loads((folder / FILE).read_text(encoding="utf-8"))
    is_classifier, is_lookup = "labels" in facts, facts.get("format") == "rows"
    features = [block["name"] for block in facts["blocks"]] if is_classifier else []
    confidence = np.array([math.exp(min(0.0, answer.logprob)) for answer in answers])
    right = np.array([answer.score.exact >= 1.0 for answer in answers])
    return {
        "is_lm": is_lm,
        "n_rows": len(facts["texts"]) if is_lookup else 0,
        "about": kind.about,
        "takes_tools": kind.takes_tools,
        "task": kind.pipeline,
        "has_words": "tfidf" in features or kind.holds_words,
        "features": [block_class(name).about for name in features],
        "n_labels": len(facts["labels"]) if is_classifier else 0,
        "is_several": facts.get("format") == "label_sets",
        "confidence": confidence.mean(),
        "right": right.mean(),
        "n_items": len(answers),
        "calibration_error": calibration_error(confidence, right),
        "packages": engine.packages,
        "serve_command": serve_command(".", run=engine.setting()),
    }


# What the templates write.


def _amounts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items() if n)


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


def _fenced(text: str) -> str:
    """Return a code block that no text can end early."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}\n"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3g} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"


def _short_ms(milliseconds: float) -> str:
    return _ms(milliseconds) if milliseconds >= 10 else f"{milliseconds:.2g} ms"


# Serving speed on this machine, as sentences for report and card.


def sentences(deployment: Deployment) -> list[str]:
    """Say how fast the bundle was, and whether that is as predicted."""
    load = deployment.load
    text = _template("speed.jinja").render(
        deployment=deployment,
        served=deployment.served,
        broken=[] if load is None else list(_broken(load)),
    )
    return text.splitlines()


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


def with_speed(card: str, deployment: Deployment) -> str:
    """Return the model card with what the server showed, before its limits."""
    lines = "".join(f"- {line}\n" for line in sentences(deployment))
    if not lines:
        return card
    about = "Served on the machine of the run; other machines may differ."
    return _before_limits(card, f"## Speed\n\n{about}\n\n{lines}\n")


def with_exports(card: str, exports: Exports | None) -> str:
    """Return the model card with the table of exports, before its limits."""
    if exports is None:
        return card
    usable = [export.format for export in exports.formats if export.is_kept]
    section = _template("exports.md.jinja").render(
        exports=exports,
        engine=engine_named(exports.engine),
        folder=EXPORTS,
        served=exports.served or usable[-1] if usable else "",
    )
    return _before_limits(card, section)


TESTED, TESTED_BESIDE = "test items", "test items in the evaluation"
"""How the sizes are measured that are served, and weights beside the format that is."""


@dataclass(frozen=True)
class TriedSize:
    """A student, or a format of one, with its accuracy, size and time."""

    name: str
    how: str
    """What its accuracy and time are of: of the tested ones `TESTED` or `TESTED_BESIDE`."""
    accuracy: float
    n_bytes: float
    ms: float
    """Of one answer."""
    is_served: bool = False
    interval: Interval | None = None
    is_format: bool = False
    """Whether it is one of the formats of the student, which the card lists by themselves."""


def tried_sizes(
    probe: Probe | None,
    plan: Plan | None,
    student: str,
    score: ModelScore | None,
    deployment: Deployment,
) -> list[TriedSize]:
    """Return what was tried or planned, the smallest first.

    Args:
        probe: has the kinds of student.
        plan: has what it predicted of other students, such as the whole of one that was cut.
        student: name of the chosen one.
        score: its accuracy on test items.
        deployment: has its size and time, and those of its formats.
    """
    tried = [
        TriedSize(kind.student, "cross-validated", kind.measured, kind.n_bytes, kind.ms_per_answer)
        for kind in (probe.kinds if probe else ())
        if kind.n_bytes
    ]
    tried += _planned_sizes(plan, {student, *(size.name for size in tried)})
    served = deployment.exports.served if deployment.exports else ""
    for export in deployment.exports.formats if deployment.exports else ():
        facts = export.exact.mean, export.n_bytes, export.latency_p50_ms
        name, is_served = f"{student}, {export.format}", export.format == served
        tried.append(TriedSize(name, TESTED, *facts, is_served, export.exact, True))
    if score is not None:
        part = score.slice()
        exact = part.exact
        n_bytes, ms, how = 1e6 * deployment.model_mb, deployment.latency_p50_ms, TESTED
        if served:
            n_bytes = BYTES_PER_PARAM_BUNDLE * score.n_params
            ms, how = 1e3 * score.seconds / part.n_items, TESTED_BESIDE
        if n_bytes:
            tried.append(TriedSize(student, how, exact.mean, n_bytes, ms, not served, exact))
    return sorted(tried, key=lambda size: size.n_bytes)


def _planned_sizes(plan: Plan | None, names: Collection[str]) -> Iterator[TriedSize]:
    """Yield other students of a plan whose accuracy it predicted, each at its most accurate."""
    points = (*plan.frontier, *plan.alternatives.values()) if plan else ()
    best: dict[str, PlanPoint] = {}
    for point in points:
        if point.accuracy_known and point.weights_mb and point.student not in names:
            known = best.setdefault(point.student, point)
            best[point.student] = max(known, point, key=lambda p: (p.accuracy, -p.latency_ms))
    for name, point in best.items():
        interval = Interval(point.accuracy, point.accuracy_low, point.accuracy_high)
        facts = point.accuracy, 1e6 * point.weights_mb, point.latency_ms
        yield TriedSize(name, "predicted", *facts, interval=interval)


def with_sizes(card: str, tried: Sequence[TriedSize], student: Student) -> str:
    """Return the model card with what accuracy each size has, before its limits."""
    tried = [size for size in tried if size.is_served or not size.is_format]
    if len({size.name for size in tried}) < 2:
        tried = []
    if not tried and not student.depth_curve:
        return card
    section = _template("sizes.md.jinja").render(tried=tried, student=student)
    return _before_limits(card, section)


def _before_limits(card: str, section: str) -> str:
    before, limits, after = card.partition("## Limits")
    return f"{before}{section}{limits}{after}"
