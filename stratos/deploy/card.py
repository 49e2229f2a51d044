"""The model card: what the student is, how it was made and measured, and how to run it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    name = card_name(config, student)
    example = next((one for one in answers if one.score.exact >= 1), answers[0])
    source = _learnt_from(config, plan, corpus)
    return "\n".join(
        [
            _front_matter(config, plan, scorecard, name),
            f"# {name}",
            "",
            f"A model of {student.n_params:,} parameters for one task, `{scorecard.task}`, "
            f"{'distilled' if source.is_teacher else 'trained'} by Stratos.",
            "",
            *_headline(scorecard),
            _measured(scorecard),
            _what_was_read(scorecard, student, probe, pilot),
            _how_made(config, plan, student, corpus, source.text),
            _how_to_run(config, plan, example, answers),
            _limits(config, scorecard, answers),
        ]
    )


def card_name(config: Config, student: Student) -> str:
    """Return the name of the model: task and student."""
    return f"{config.task.name}-{student.name}"


def _front_matter(config: Config, plan: Plan, scorecard: Scorecard, name: str) -> str:
    import yaml

    task, score = scorecard.task, scorecard.score("student")
    rows = score.rows if score is not None else ()
    metrics = [
        {
            "type": scorecard.metric,
            "name": f"{scorecard.metric} ({row.slice})",
            "value": round(row.exact.mean, 4),
        }
        for row in rows
    ]
    front: dict[str, Any] = {
        "license": _license(config, plan).lower(),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["distillation", "stratos", task],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {
                            "type": scorecard.task,
                            "name": f"{scorecard.task}, test split",
                        },
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _headline(scorecard: Scorecard) -> list[str]:
    """Return the lines that say first that a baseline is as good; none where none is."""
    found = verdict(scorecard)
    return [] if found is None or not found.headline else [f"**{found.headline}.**", ""]


def _measured(scorecard: Scorecard) -> str:
    lines = [
        "## Measured",
        "",
        f"`{scorecard.metric}` on items of the test split, which no earlier stage of this run has "
        "read; in brackets the 95% interval (Wilson).",
        "",
        "| | slice | items | right | F1 |",
        "|---|---|---:|---:|---:|",
    ]
    for score in scorecard.scores:
        lines += [
            f"| {_who(score)} | {row.slice} | {row.n_items:,} | {_share(row.exact)} "
            f"| {row.f1:.3f} |"
            for row in score.rows
        ]
    if told := _cut_short(scorecard):
        lines += ["", told]
    found = verdict(scorecard)
    if found is not None:
        lines += ["", found.text]
    comparison = scorecard.comparison
    if comparison is not None:
        about = "" if comparison.ratio is None else f"about {comparison.ratio:.2f} times, and "
        lines += [
            "",
            f"On the {counted(comparison.n_items, 'item', spec=',')} that both answered, this "
            f"model's accuracy is {about}at least {least(comparison.ratio_at_least)} times that of "
            "the teacher (lower end of its interval over upper end of the teacher's; so many items "
            f"can show {most(comparison.ratio_bound)} at most). McNemar's exact test: "
            f"p = {comparison.p_value:.2g}.",
        ]
    return "\n".join([*lines, ""])


def _what_was_read(
    scorecard: Scorecard,
    student: Student,
    probe: Probe | None,
    pilot: Pilot | None,
) -> str:
    """Say which held-out items each stage read, and how often the test items were read before."""
    lines = [
        "## What was read when",
        "",
        "Held-out items, none of which was trained on; validation items are those of every run.",
        "",
        "| stage | split | items | seed | for |",
        "|---|---|---|---:|---|",
    ]
    for row in reads_of_run(probe, pilot, student, scorecard):
        lines.append(f"| {row.stage} | {row.split} | {row.items} | {row.seed} | {row.purpose} |")
    if scorecard.earlier_reads is not None:
        told = said(scorecard.earlier_reads)
        lines += ["", f"{told[:1].upper()}{told[1:]}."]
    return "\n".join([*lines, ""])


def _cut_short(scorecard: Scorecard) -> str:
    """Say whose answers were cut at the longest length, and whether that leaves a doubt."""
    cut = [score for score in scorecard.scores if score.n_truncated]
    if not cut:
        return ""
    told = ", ".join(
        f"{_who(score)} {cut_short(score.n_truncated, score.slice().n_items)}" for score in cut
    )
    doubt = any(score.is_cut_short for score in cut)
    more = " Where more than 1 in 20 are, the accuracy may be higher than is measured."
    return f"Answers that ended at the longest length: {told}.{more if doubt else ''}"


def _who(score: ModelScore) -> str:
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
    strategy = next((one for one in config.strategies if one.name == plan.strategy), None)
    if strategy is None or not (strategy.learns_rows or strategy.makes_questions):
        return of_teacher
    if corpus is None:
        writes = strategy.writes_reasoning or strategy.words_questions
        is_asked = strategy.adds_rows or writes
    else:
        is_asked = corpus.teacher_tokens > 0
    if is_asked:
        return of_teacher
    told = (
        "the answers in the labelled rows of the task's file"
        if strategy.learns_rows
        else "questions that the task makes from known answers"
    )
    return _Source(f"Learned from: {told}. No teacher's answer was used.", False)


def _how_made(
    config: Config, plan: Plan, student: Student, corpus: Corpus | None, source: str
) -> str:
    start = named(config.students, plan.student).path
    lines = [
        "## How it was made",
        "",
        f"- {source}",
        f"- Strategy: {plan.strategy}.",
        f"- Start: {start or 'random weights'}; licence of this model: {_license(config, plan)}.",
    ]
    if told := _rows(config.task):
        lines.append(told)
    if corpus is not None:
        slices = ", ".join(f"{n:,} {name}" for name, n in corpus.n_by_slice.items())
        sources = ", ".join(f"{n:,} {source}" for source, n in corpus.n_by_source.items())
        refused = ", ".join(f"{n:,} {reason}" for reason, n in corpus.refused.items() if n)
        parts = sources or (slices if len(corpus.n_by_slice) > 1 else "")
        lines += [
            f"- Data: {counted(corpus.n_items, 'item' if sources else 'verified item', spec=',')}"
            + (f" ({parts})" if parts else "")
            + (f"; refused: {refused}" if refused else "")
            + f". Tokens of the teacher in them: {corpus.teacher_tokens:,}. "
            f"SHA-256 of the file: `{corpus.sha256}`.",
        ]
    lines += [
        f"- Training: {counted(student.steps, 'step', spec=',')} on "
        f"{counted(student.train_tokens, 'token', spec=',')}, seed {config.seed}; the weights are "
        f"those of step {student.best_step:,}.",
    ]
    return "\n".join([*lines, ""])


def _rows(task: Task) -> str:
    """Say where the rows are from, and their labels; "" where the task makes its own."""
    if not task.rows_name:
        return ""
    labels = [f"`{one}`" for one in task.all_labels]
    shown = listed(labels[:MOST_LABELS]) if labels else ""
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return f"- Rows: `{task.rows_name}`{f'; labels: {shown}{more}' if shown else ''}."


def _instruction(config: Config, plan: Plan) -> str:
    """Say where the instruction of a student that starts from a model is; "" for another."""
    told = config.task.system_prompt
    start = named(config.students, plan.student).path
    if not told or start is None:
        return ""
    return (
        f"The chat template puts the task's instruction before every question:\n\n"
        f"{_fenced(told, 'text')}\nSend the bare question. A system message of yours takes the "
        "instruction's place, and this model was not trained with it.\n\n"
    )


def _how_to_run(
    config: Config, plan: Plan, example: KeptAnswer, answers: Sequence[KeptAnswer]
) -> str:
    told = _instruction(config, plan)
    max_tokens = room_for_answers(answers, config.evaluate.max_new_tokens)
    body = json.dumps({"model": ".", "messages": example.messages, "max_tokens": max_tokens})
    return f"""\
## How to run

{told}In this folder, with `pip install "transformers[serving]>=5.0"`, the question

{_fenced(example.messages[-1]["content"], "text")}
is asked with

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
chat = {json.dumps(example.messages)}
inputs = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
output = model.generate(**inputs)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

or over HTTP, from any client of the OpenAI API. The server has a limit of its own for the length
of an answer, so send `max_tokens`: {max_tokens} are enough for every answer of the evaluation.

```sh
{serve_command(".")}
```

```sh
curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \\
  -d {shlex.quote(body)}
```

{_about(example)}

{_fenced(example.text, "text")}"""


def _about(example: KeptAnswer) -> str:
    """Introduce the answer that is shown, and say whether it is a right one."""
    if example.score.exact >= 1:
        return "It answered this test item right:"
    return f"It answered none of the test items right. Here it answered, where `{example.gold}` is:"


def _fenced(text: str, language: str) -> str:
    """Return a code block that no text can end early."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}\n"


def _limits(config: Config, scorecard: Scorecard, answers: Sequence[KeptAnswer]) -> str:
    reasoning = _REASONING if _writes_reasoning(config, answers) else ""
    return f"""\
## Limits

It knows the task `{scorecard.task}` and nothing else: a question of another form gets an answer
that means nothing. The accuracy above holds for questions like those of the test split.{reasoning}
"""


def _writes_reasoning(config: Config, answers: Sequence[KeptAnswer]) -> bool:
    """Return whether most answers that can be read have more text than an answer and its mark."""
    read = [(one.text.strip(), config.task.parse(one.text)) for one in answers]
    longer = [len(text) > len(answer) + _MARK for text, answer in read if answer is not None]
    return 2 * sum(longer) > len(longer)


def _license(config: Config, plan: Plan) -> str:
    return named(config.students, plan.student).license
