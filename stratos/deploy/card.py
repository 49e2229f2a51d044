"""The model card: what the student is, how it was made and measured, and how to run it."""

from __future__ import annotations

import json
import shlex
from typing import Any

from stratos.config import Config
from stratos.deploy.server import serve_command
from stratos.evaluate.files import KeptAnswer
from stratos.records import Corpus, Interval, ModelScore, Plan, Scorecard, Student
from stratos.words import counted

_ROLES = {
    "student": "this model",
    "teacher": "teacher",
    "untouched": "this model before training",
    "lookup": "answer of the nearest training item",
    "chance": "random guess",
}


def model_card(
    config: Config,
    plan: Plan,
    scorecard: Scorecard,
    student: Student,
    corpus: Corpus | None,
    example: KeptAnswer,
) -> str:
    """Return the text of the card, with its YAML front matter.

    Args:
        config: of the run.
        plan: names teacher, student and strategy.
        scorecard: the measurements.
        student: what was trained.
        corpus: what it was trained on, if its record is at hand.
        example: a test item with the student's answer, for the commands.
    """
    name = card_name(config, student)
    return "\n".join(
        [
            _front_matter(config, plan, scorecard, name),
            f"# {name}",
            "",
            f"A model of {student.n_params:,} parameters for one task, `{scorecard.task}`, "
            "distilled by Stratos.",
            "",
            _measured(scorecard),
            _how_made(config, plan, student, corpus),
            _how_to_run(config, example),
            _limits(scorecard),
        ]
    )


def card_name(config: Config, student: Student) -> str:
    """Return the name of the model: task and student."""
    return f"{config.task.name}-{student.name}"


def _front_matter(config: Config, plan: Plan, scorecard: Scorecard, name: str) -> str:
    import yaml

    task, score = scorecard.task, scorecard.score("student")
    rows = score.slices if score is not None else ()
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


def _measured(scorecard: Scorecard) -> str:
    lines = [
        "## Measured",
        "",
        f"`{scorecard.metric}` on items of the test split, which nothing before the evaluation has "
        "read; in brackets the 95% interval (Wilson).",
        "",
        "| | slice | items | right | F1 |",
        "|---|---|---:|---:|---:|",
    ]
    for score in scorecard.scores:
        lines += [
            f"| {_who(score)} | {row.slice} | {row.n_items:,} | {_share(row.exact)} "
            f"| {row.f1:.3f} |"
            for row in score.slices
        ]
    comparison = scorecard.comparison
    if comparison is not None:
        about = "" if comparison.ratio is None else f"about {comparison.ratio:.2f} times, and "
        lines += [
            "",
            f"On the {counted(comparison.n_items, 'item', spec=',')} that both answered, this "
            f"model's accuracy is {about}at least {comparison.ratio_at_least:.2f} times that of "
            "the teacher (lower end of its interval over upper end of the teacher's). McNemar's "
            f"exact test: p = {comparison.p_value:.2g}.",
        ]
    return "\n".join([*lines, ""])


def _who(score: ModelScore) -> str:
    role = _ROLES.get(score.role, score.role)
    return f"{role}, {score.name}" if score.role == "teacher" else role


def _share(exact: Interval) -> str:
    if exact.low == exact.high:
        return f"{exact.mean:.1%}"
    return f"{exact.mean:.1%} [{exact.low:.1%}, {exact.high:.1%}]"


def _how_made(config: Config, plan: Plan, student: Student, corpus: Corpus | None) -> str:
    teacher = next(teacher for teacher in config.teachers if teacher.name == plan.teacher)
    start = next(one for one in config.students if one.name == plan.student).path
    lines = [
        "## How it was made",
        "",
        f"- Teacher: {teacher.name} (licence: {teacher.card().license}).",
        f"- Strategy: {plan.strategy}.",
        f"- Start: {start or 'random weights'}; licence of this model: {_license(config, plan)}.",
    ]
    if corpus is not None:
        slices = ", ".join(f"{n:,} {name}" for name, n in corpus.n_by_slice.items())
        refused = ", ".join(f"{n:,} {reason}" for reason, n in corpus.refused.items() if n)
        lines += [
            f"- Data: {counted(corpus.n_items, 'verified item', spec=',')} ({slices})"
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


def _how_to_run(config: Config, example: KeptAnswer) -> str:
    max_tokens = config.evaluate.max_new_tokens
    body = json.dumps({"model": ".", "messages": example.messages, "max_tokens": max_tokens})
    return f"""\
## How to run

In this folder, with `pip install "transformers[serving]>=5.0"`, the question

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
of an answer, so send `max_tokens`.

```sh
{serve_command(".")}
```

```sh
curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \\
  -d {shlex.quote(body)}
```

It answers

{_fenced(example.text, "text")}"""


def _fenced(text: str, language: str) -> str:
    """Return a code block that no text can end early."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}\n"


def _limits(scorecard: Scorecard) -> str:
    return f"""\
## Limits

It knows the task `{scorecard.task}` and nothing else: a question of another form gets an answer
that means nothing. The accuracy above holds for questions like those of the test split. Its
reasoning is written before the answer and can be wrong where the answer is right, or the reverse.
"""


def _license(config: Config, plan: Plan) -> str:
    return next(one for one in config.students if one.name == plan.student).license
