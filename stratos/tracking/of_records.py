"""What is tracked of a stage's record: tables of answers, charts, and the artifact."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stratos.config import Config
from stratos.core.formats import is_number
from stratos.core.redact import redact_shapes, redact_text
from stratos.records import (
    Corpus,
    CurvePoint,
    Deployment,
    Plan,
    PlanPoint,
    Probe,
    Scorecard,
    Student,
)
from stratos.report.examples import Example, read_examples
from stratos.report.frontier import chosen_point, is_same
from stratos.tracking.sink import Artifact, Cell, Chart, Table

MOST_ROWS = 1000
"""Of a table."""
LONGEST = 2000
"""Characters of a cell."""
_MOST_POINTS = 500
"""Of a curve."""
_MODELS = ("student", "teacher", "untouched")

LINEAGE = {
    "probe": ("probe", "probe", ()),
    "plan": ("plan", "plan", ("probe",)),
    "synthesize": ("corpus", "dataset", ("plan",)),
    "distill": ("student", "model", ("plan", "synthesize")),
    "evaluate": ("scorecard", "evaluation", ("distill",)),
    "deploy": ("bundle", "model", ("distill", "evaluate")),
}
"""Stage to what it makes: name and type of the artifact, and the stages whose artifacts it uses."""


def tables_of(stage: str, record: Any) -> Iterator[Table]:
    """Yield the tables of a stage's record; none where its files are not there."""
    if isinstance(record, Probe):
        yield from _asked(Path(record.answers_path))
    elif isinstance(record, Scorecard):
        found = read_examples(Path(record.examples_path)).shown[:MOST_ROWS]
        if found:
            columns = ("question", "gold", *_MODELS, *(f"{one} right" for one in _MODELS))
            rows = [_side_by_side(one) for one in found]
            yield Table(f"{stage}/answers", (*columns, "slice", "outcome"), rows)


def charts_of(stage: str, record: Any) -> Iterator[Chart]:
    """Yield the charts of a stage's record."""
    if isinstance(record, Plan):
        yield _frontier(record)
    elif isinstance(record, Student) and len(record.curve) > 1:
        yield from _curves(record.curve)


def artifact_of(
    config: Config, stage: str, record: Any, made: Mapping[str, str], is_input: bool
) -> Artifact | None:
    """Return the artifact of a stage; None where it has none.

    Args:
        config: of the run.
        stage: whose it is.
        record: of the stage.
        made: stage to the name of its artifact, of those before it.
        is_input: whether another run made it.
    """
    if stage not in LINEAGE:
        return None
    name, kind, before = LINEAGE[stage]
    path = config.run_dir / f"{stage}.json"
    if not path.exists() and config.paths.records_from is not None:
        path = Path(config.paths.records_from).expanduser() / f"{stage}.json"
    files, facts = _content(record)
    return Artifact(
        name=f"{config.task.name}-{name}",
        type=kind,
        record=path,
        files=files,
        made_from=tuple(made[one] for one in before if one in made),
        facts=facts,
        is_input=is_input,
    )


def _content(record: Any) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """Return the files that belong to a record, and what is said of them."""
    match record:
        case Corpus():
            return (Path(record.path),), {"sha256": record.sha256, "n_items": record.n_items}
        case Student():
            facts = {"weights_sha256": record.weights_sha256, "n_params": record.n_params}
            return (Path(record.path),), facts
        case Deployment():
            return (Path(record.bundle_path),), {}
    return (), {}


def _asked(path: Path) -> Iterator[Table]:
    """Yield the table of what teachers answered in the probe."""
    rows: list[list[Cell]] = []
    try:
        with path.open("rb") as file:
            for line in file:
                row = json.loads(line)
                if row.get("kind") != "answer":
                    continue
                texts = (row["teacher"], row["prompt"], row["question"], row["gold"], row["answer"])
                rows.append([*map(_cell, texts), row["exact"] == 1])
                if len(rows) == MOST_ROWS:
                    break
    except (OSError, ValueError, KeyError):
        return
    if rows:
        columns = ("teacher", "prompt", "question", "gold", "answer", "right")
        yield Table("probe/answers", columns, rows)


def _side_by_side(example: Example) -> list[Cell]:
    by_model = {one.model: one for one in example.replies}
    replies = [by_model.get(name) for name in _MODELS]
    return [
        _cell(example.question),
        _cell(example.gold),
        *(None if one is None else _cell(one.text or one.answer) for one in replies),
        *(None if one is None else one.right for one in replies),
        _cell(example.slice),
        example.kind,
    ]


def _cell(text: Any) -> str:
    """Return a text without secrets, and not too long."""
    clean, _ = redact_shapes(redact_text(str(text)))
    clean = clean.encode(errors="replace").decode()  # halves of characters, which JSON refuses
    return clean if len(clean) <= LONGEST else f"{clean[: LONGEST - 1]}…"


def _frontier(plan: Plan) -> Chart:
    chosen = chosen_point(plan)
    points = [("frontier", one) for one in plan.frontier if not is_same(one, chosen)]
    points += [(name, one) for name, one in plan.alternatives.items() if not is_same(one, chosen)]
    points.append(("chosen", chosen))
    columns = (
        "usd", "accuracy", "accuracy low", "accuracy high", "hours", "p95 ms", "student",
        "strategy", "teacher", "what",
    )  # fmt: skip
    known = all(one.accuracy_known for _, one in points)
    table = Table("plan/frontier", columns, [_row(what, one) for what, one in points])
    title = "Plans: accuracy against dollars" if known else "Plans: hours against dollars"
    return Chart(table, title, x="usd", y="accuracy" if known else "hours")


def _row(what: str, point: PlanPoint) -> list[Cell]:
    return [
        point.usd,
        point.accuracy if point.accuracy_known else None,
        point.accuracy_low,
        point.accuracy_high,
        point.hours,
        point.latency_ms,
        point.student,
        point.strategy,
        point.teacher,
        what,
    ]


def _curves(curve: tuple[CurvePoint, ...]) -> Iterator[Chart]:
    kept = curve[:: max(1, len(curve) // _MOST_POINTS)]
    shown = {
        "loss": {"training": [(p.tokens, p.loss) for p in kept]},
        "exact": {"validation": [(p.tokens, p.exact) for p in curve if is_number(p.exact)]},
    }
    shown["loss"]["validation"] = [
        (p.tokens, p.validation_loss) for p in curve if is_number(p.validation_loss)
    ]
    titles = {"loss": "Loss over training tokens", "exact": "Validation items that are right"}
    for name, lines in shown.items():
        rows = [(tokens, value, which) for which, line in lines.items() for tokens, value in line]
        if rows:
            table = Table(f"distill/curve_{name}", ("tokens", name, "of"), rows)
            yield Chart(table, titles[name], x="tokens", y=name, kind="lines", series="of")
