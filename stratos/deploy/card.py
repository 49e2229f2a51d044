"""The model card: what the student is, how it was made and measured, and how to run it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
import yaml

from stratos.config import Config
from stratos.core.by_name import named
from stratos.core.counted import counted, cut_short, listed
from stratos.core.formats import least, most
from stratos.deploy.bundle_server import serve_command
from stratos.evaluate.answer_files import KeptAnswer, room_for_answers
from stratos.evaluate.reads import reads_of_run, said
from stratos.evaluate.verdict import verdict
from stratos.records import Corpus, Interval, ModelScore, Pilot, Plan, Probe, Scorecard, Student
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
    """
    start = named(config.students, plan.student)
    example = next((answer for answer in answers if answer.score.exact >= 1), answers[0])
    max_tokens = room_for_answers(answers, config.evaluate.max_new_tokens)
    request = {"model": ".", "messages": example.messages, "max_tokens": max_tokens}
    earlier_reads = scorecard.earlier_reads
    return _template().render(
        name=card_name(config, student),
        front=_front_matter(scorecard, card_name(config, student), start.license),
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
        instruction="" if start.path is None else config.task.system_prompt,
        example=example,
        chat=json.dumps(example.messages),
        max_tokens=max_tokens,
        serve_command=serve_command("."),
        request=shlex.quote(json.dumps(request)),
        reasoning=_REASONING if _writes_reasoning(config, answers) else "",
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        counted=counted,
        fenced=_fenced,
        least=least,
        model_name=_model_name,
        most=most,
        share=_share,
        whole="{:,}".format,
    )
    return environment.get_template("card.md.jinja")


def card_name(config: Config, student: Student) -> str:
    """Return the name of the model: task and student."""
    return f"{config.task.name}-{student.name}"


def _front_matter(scorecard: Scorecard, name: str, license_name: str) -> str:
    score = scorecard.score("student")
    result = {
        "task": {"type": "text-generation"},
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
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
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
