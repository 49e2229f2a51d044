"""The report page of one run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stratos.config import STAGES, Config, LimitsConfig, PathsConfig
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.formats import by_reason, counted, magnitude
from stratos.core.intervals import wilson
from stratos.core.redact import redact
from stratos.deploy.card import sentences
from stratos.evaluate.read_log import describe_reads, reads_of_run
from stratos.evaluate.verdict import (
    accuracy_as_served,
    against_logged,
    by_groups,
    errs_most,
    format_in_words,
    known_wordings,
    verdict,
    whole_conversations,
)
from stratos.plan.explain.show import net_text
from stratos.plan.schedule import schedule_text
from stratos.plan.worth import first_month_usd, span_name, way_name, way_note
from stratos.records import (
    NO_LABEL,
    Corpus,
    Measure,
    ModelScore,
    Pilot,
    Plan,
    Probe,
    Report,
    RoomRecord,
    Scorecard,
    Worth,
)
from stratos.report import costs
from stratos.report.charts import curve_plots, render
from stratos.report.frontier import (
    chosen_point,
    command_again,
    frontier_plot,
    is_same,
    next_steps,
    plan_rows,
    sizes_plot,
)
from stratos.report.paired import read_examples
from stratos.report.planned import planned_rows
from stratos.report.run_verdict import RunVerdict, run_verdict, run_worth
from stratos.report.sweep_jobs import machine, versions
from stratos.tasks.base import Task

# The complexity section, with the learning curve of a pilot.

NO_PILOT = "plan.pilot=true trains each student shortly"


def complexity_rows(probe: Probe | None, pilot: Pilot | None) -> Sequence[Measure]:
    """Return the probe's measures, then the pilot's points; none where complexity is declared."""
    if probe is None or not probe.complexity.measures:
        return ()
    points = [
        Measure(
            f"exact match after {magnitude(point.train_tokens)} tokens",
            wilson(round(point.accuracy * point.n_items), point.n_items),
            "share",
            run.student,
            note=f"pilot by {run.strategy}, {counted(point.n_items, 'validation item')}",
        )
        for run in (pilot.runs if pilot is not None else ())
        for point in sorted(run.points, key=lambda point: point.train_tokens)
    ]
    if not points:
        why = NO_PILOT if pilot is None else "the pilot could train none"
        points = [Measure("learning curve", None, "share", "task", note=why)]
    return (*probe.complexity.measures, *points)


# Confusion matrix, precision, recall and F1 by label.


@dataclass(frozen=True)
class LabelRow:
    """One label of one model."""

    label: str
    n_items: int
    """Items whose right label it is."""
    counts: tuple[int, ...]
    """How often each label was answered to them, in the order of `LabelTable.answered`."""
    precision: float | None
    """Share right of the answers with this label; None where there are none."""
    recall: float
    """Share of its items that got it."""
    f1: float


@dataclass(frozen=True)
class LabelTable:
    """All labels of one model."""

    answered: tuple[str, ...]
    """Labels that were answered, and last, where there is such an answer, none of them."""
    rows: tuple[LabelRow, ...]
    macro_f1: float
    """Mean over the labels: each counts the same, however rare."""


def label_table(score: ModelScore) -> LabelTable | None:
    """Return the labels of a model; None where its answers are none."""
    if not score.labels:
        return None
    labels = tuple(score.labels)
    has_none = any(NO_LABEL in row for row in score.labels.values())
    answered = (*labels, *((NO_LABEL,) if has_none else ()))
    rows = []
    for label, row in score.labels.items():
        n_items, right = sum(row.values()), row.get(label, 0)
        n_answered = sum(answers.get(label, 0) for answers in score.labels.values())
        rows.append(
            LabelRow(
                label=label,
                n_items=n_items,
                counts=tuple(row.get(answer, 0) for answer in answered),
                precision=right / n_answered if n_answered else None,
                recall=right / n_items if n_items else 0.0,
                f1=2 * right / (n_items + n_answered) if n_items + n_answered else 0.0,
            )
        )
    return LabelTable(answered, tuple(rows), sum(row.f1 for row in rows) / len(rows))


ROLE_NAMES = {
    "student": "Student",
    "constrained": "Student, decoding constrained by the schema",
    "teacher": "Teacher",
    "untouched": "Untouched student",
    "linear": "TF-IDF with logistic regression",
    "lookup": "Nearest training item",
    "situation": "Most frequent answer in the same situation",
    "majority": "Most frequent answer",
    "chance": "Chance",
}


def _rows_of(task: Task) -> tuple[str, ...]:
    """Return what is said of a task's rows; nothing where its files are gone."""
    with contextlib.suppress(StratosError, OSError, ValueError):
        return tuple(task.notes)
    return ()


def write_run_page(
    config: Config, records: Mapping[str, Any], context: Context, warnings: Sequence[str] = ()
) -> Report:
    """Write `report.html` into the run folder.

    Args:
        config: the run's config.
        records: stage name to record; any may be missing or None.
        context: the run's folder and ledger.
        warnings: what the stages have warned of; the plan's own are added.
    """
    started = time.perf_counter()
    named = _by_stage(records)
    plan: Plan | None = named.get("plan")
    student = named.get("distill")
    try:
        command = command_again(context.run_dir)
        steps = next_steps(
            context.run_dir, named.get("probe"), named.get("pilot"), plan, student,
            is_taught=any(
                strategy.learns_teacher or strategy.adds_rows
                for strategy in config.strategies
                if plan is not None and strategy.name == plan.strategy
            ),
        )  # fmt: skip
    except ValueError:  # the overrides that Hydra kept are corrupt
        command, steps = "", ()
    page = render(
        "run.html",
        title=f"{config.task.name} · Stratos",
        task=config.task,
        rows=_rows_of(config.task) if named.get("evaluate") else (),
        run_name="/".join(context.run_dir.resolve().parts[-2:]),
        made=datetime.now().astimezone(),
        records=named,
        run_dir=context.run_dir,
        next_steps=steps,
        warnings=list(dict.fromkeys([*warnings, *(plan.warnings if plan else ())])),
        command=command,
        versions=versions(),
        machine=machine(),
        config=msgspec.json.format(msgspec.json.encode(redact(config.plain)), indent=2).decode(
            errors="replace"
        ),
        seed=config.seed,
        **_results(config.limits, config.paths, named, run_verdict(config, named)),
        **_choice(config.limits, named, context, run_worth(config, named)),
        **_spending(config.limits, named, context),
    )
    path = context.run_dir / "report.html"
    write_atomically(path, page)
    return Report(path=str(path), n_bytes=len(page), seconds=time.perf_counter() - started)


def _results(
    limits: LimitsConfig, paths: PathsConfig, named: Mapping[str, Any], judgement: RunVerdict | None
) -> dict[str, Any]:
    """Return what was measured: teachers, corpus, student, scores, answers."""
    scorecard: Scorecard | None = named.get("evaluate")
    student, deployment = named.get("distill"), named.get("deploy")
    return {
        "probe": named.get("probe"),
        "pilot": named.get("pilot"),
        "measures": complexity_rows(named.get("probe"), named.get("pilot")),
        "corpus": named.get("synthesize"),
        "answer_sizes": _answer_sizes,
        "student": student,
        "curves": curve_plots(student.curve) if student else (),
        "scorecard": scorecard,
        "verdict": verdict(scorecard) if scorecard else None,
        "run_verdict": judgement,
        "against_logged": against_logged(scorecard.logged)
        if scorecard and scorecard.logged
        else "",
        "fields": _fields(scorecard),
        "errs_most": errs_most,
        "labels": _labels(scorecard),
        "slices": _slices(scorecard),
        "scores": _scores(scorecard),
        "role_names": ROLE_NAMES,
        "examples": read_examples(_path(paths, scorecard.examples_path)) if scorecard else None,
        "earlier_reads": describe_reads(scorecard.earlier_reads) if scorecard else "",
        "of_groups": by_groups(scorecard),
        "known_wordings": known_wordings(scorecard),
        "whole_conversations": whole_conversations(scorecard),
        "reads": reads_of_run(named.get("probe"), named.get("pilot"), student, scorecard),
        "deployment": deployment,
        "tried_sizes": sizes_plot(named.get("probe"), named.get("plan"), scorecard, deployment),
        "format_verdict": format_in_words,
        "speed": sentences(deployment) if deployment else [],
        "accuracy_verdict": _accuracy_verdict(limits, scorecard, deployment),
        "sections": [
            (record.section, record)
            for record in named.values()
            if isinstance(record, RoomRecord) and record.section is not None
        ],
    }


def _choice(
    limits: LimitsConfig, named: Mapping[str, Any], context: Context, worth: Worth | None
) -> dict[str, Any]:
    """Return what was planned, beside what else there was to choose."""
    plan: Plan | None = named.get("plan")
    return {
        "plan": plan,
        "worth": worth,
        "is_same": is_same,
        "limits": limits,
        "serve_hours": limits.serve_hours,
        "frontier": frontier_plot(plan, context.run_dir) if plan else None,
        "chosen": chosen_point(plan) if plan else None,
        "chosen_rows": plan_rows(chosen_point(plan), "chosen") if plan else (),
        "net": net_text,
        "way_name": way_name,
        "way_said": way_note,
        "ways_span": span_name,
        "first_month_usd": first_month_usd,
        "ahead": "" if plan is None else schedule_text(plan),
        "left_out": by_reason(plan.left_out) if plan else (),
    }


def _spending(limits: LimitsConfig, named: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return money and time, planned and spent."""
    plan: Plan | None = named.get("plan")
    spends = costs.read_ledger(context.ledger.path)
    return {
        "costs": costs.cost_rows(plan, named, spends, costs.read_reserves(context.ledger.path)),
        "budget_usd": limits.budget_usd,
        "planned": planned_rows(plan, named, spends),
        "spends": spends,
        "spent_usd": context.ledger.spent_usd,
        "stage_seconds": costs.stage_seconds(named, spends),
        "is_metered": any(spend.seconds for spend in spends),
        "stages_left_out": [name for name in STAGES[:-1] if name not in named],
    }


def _by_stage(records: Mapping[str, Any]) -> dict[str, Any]:
    """Return the records that are there, in the order of the stages; those of rooms come last."""
    names = dict.fromkeys((STAGES[0], "pilot", *STAGES[1:-1], *records))
    return {name: records[name] for name in names if records.get(name) is not None}


def _accuracy_verdict(limits: LimitsConfig, scorecard: Scorecard | None, deployment: Any) -> str:
    """Say whether what is served keeps the accuracy limit; "" where there is none."""
    least, reached = limits.accuracy, accuracy_as_served(scorecard, deployment)
    if least is None or reached is None:
        return ""
    return "kept" if reached[0].mean >= least else "NOT kept"


def _slices(scorecard: Scorecard | None) -> list[str]:
    """Return every slice that was scored, "all" first."""
    names = {row.slice for score in scorecard.scores for row in score.rows} if scorecard else set()
    return sorted(names, key=lambda name: (name != "all", name))


def _fields(scorecard: Scorecard | None) -> list[str]:
    """Return the fields of answers that are JSON objects, in their order."""
    return list(dict.fromkeys(f for s in scorecard.scores for f in s.fields)) if scorecard else []


def _labels(scorecard: Scorecard | None) -> LabelTable | None:
    student = scorecard.score("student") if scorecard else None
    return label_table(student) if student else None


def _scores(scorecard: Scorecard | None) -> list[ModelScore]:
    """Return the scores in the order that a reader compares them."""
    order = list(ROLE_NAMES)
    return sorted(
        scorecard.scores if scorecard else (),
        key=lambda score: order.index(score.role) if score.role in order else len(order),
    )


def _answer_sizes(corpus: Corpus) -> list[str]:
    """Return the sizes that any slice has, numbers in their order."""
    sizes = {size for table in corpus.answer_sizes.values() for size in table}
    return sorted(sizes, key=lambda size: (not size.isdigit(), len(size), size))


def _path(paths: PathsConfig, path: str) -> Path:
    """Resolve a path of a record, also after its run folder was moved."""
    folders = [Path(paths.run_dir)]
    if paths.records_from is not None:
        folders.append(Path(paths.records_from).expanduser())
    candidates = [folder / path for folder in folders]
    # Below a folder that was moved, the stage's own part of the path is still the same.
    candidates += [folder.joinpath(*Path(path).parts[-2:]) for folder in folders]
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])
