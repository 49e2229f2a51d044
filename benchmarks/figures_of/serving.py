"""Figures of serving: engines, formats, load tests, and what was predicted of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from figures_of.tables import columns, result, source, span
from stratos.core.formats import counted

LOSS = "serving/format_loss"
ESTIMATE, PREDICTOR = "serving/estimate", "serving/predictor"
CUT = "serving/predictor_cut"
OPERATED, ANSWERS = "serving/operated", "serving/answers"
ESTIMATED = {"answer_ms": "alone", "requests_per_s": "requests/s", "p95_ms": "p95 at 70%"}
"""What is predicted of a server, with its short title."""


def grouped(rows: Sequence[Any], *keys: str) -> dict[tuple[Any, ...], list[Any]]:
    """Return rows by some of their fields."""
    groups: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return dict(groups)


def _title() -> Any:
    """Return a cell that names a student in the first of its rows."""
    written: set[str] = set()

    def title(row: dict[str, Any]) -> str:
        name = row["case"][0]
        if name in written:
            return ""
        written.add(name)
        return name

    return title


def answers() -> str:
    """CPU of an answer by direct and by llama.cpp, whole and streamed: medians over rounds."""
    measured = result(ANSWERS)
    cells = grouped(measured["rows"], "engine", "at_once", "streams")
    cpu_ms = {case: median(row["cpu_ms"] for row in rows) for case, rows in cells.items()}
    engines, at_once = ({case[part]: None for case in cells} for part in (0, 1))
    lines = columns(
        [{"engine": engine} for engine in engines],
        ("CPU ms at once:", "{engine}"),
        *(
            (f"{n}, {title}", lambda row, n=n, cell=cell: cell(cpu_ms, row["engine"], n))
            for n in at_once
            for title, cell in (("whole", _whole), ("streamed", _streamed))
        ),
    )
    rounds = counted(len(next(iter(cells.values()))), "round")
    return (
        f"{lines}\n\n1M parameters, {measured['tokens']} tokens; medians of {rounds} of "
        f"{measured['items']} answers. {source(ANSWERS)}."
    )


def _whole(cpu_ms: Mapping[tuple[Any, ...], float], engine: str, n: int) -> str:
    return f"{cpu_ms[engine, n, False]:.1f}"


def _streamed(cpu_ms: Mapping[tuple[Any, ...], float], engine: str, n: int) -> str:
    whole, streamed = (cpu_ms[engine, n, streams] for streams in (False, True))
    return f"{streamed:.1f} ({streamed / whole:.2f}×)"


def format_loss() -> str:
    """A row for each student and format: what the stage `deploy` measured."""
    rows = [
        {"case": ("{student}, {train_tokens:.0f}M tokens of {task}".format_map(
            {**run, "train_tokens": run["train_tokens"] / 1e6}),), **form}
        for run in result(LOSS)
        for form in run["formats"]
    ]  # fmt: skip
    lines = columns(
        rows,
        ("student", _title()),
        ("format", "{format}"),
        ("MB", lambda row: f"{row['n_bytes'] / 1e6:.2f}"),
        ("right", "{exact[mean]:.1%}"),
        (
            "points lost, 95% interval",
            "{loss_points[mean]:.1f} [{loss_points[low]:.1f}, {loss_points[high]:.1f}]",
        ),
        ("same text", "{n_equal:,} of {n_items:,}"),
    )
    return f"{lines}\n\n{source(LOSS)}; test items of the evaluation, asked over HTTP."


def engine_estimate() -> str:
    """What was measured of engines over what was predicted, over all students."""
    rows = result(ESTIMATE)
    engines: dict[str, list[dict[str, float]]] = {}
    for case in grouped(rows, "student", "engine", "format").values():
        # The round in which other work disturbed least: the generator was least late.
        calm = min(case, key=lambda row: row["latest_ms"])
        name = f"{calm['engine']} {calm['format']}".strip().replace("llamacpp", "llama.cpp")
        ratios = {key: calm[key] / calm[f"{key}_predicted"] for key in ESTIMATED}
        engines.setdefault(f"{name}, {calm['at_once']} at once", []).append(ratios)
    lines = columns(
        [{"name": name, "ratios": ratios} for name, ratios in engines.items()],
        ("engine", "{name}"),
        *(
            (title, lambda row, key=key: f"{span((r[key] for r in row['ratios']), '.2f')}×")
            for key, title in ESTIMATED.items()
        ),
    )
    cases = [ratios for of_engine in engines.values() for ratios in of_engine]
    within = "; ".join(
        f"{title} {sum(abs(1 / case[key] - 1) <= 0.25 for case in cases)} of {len(cases)}"
        for key, title in ESTIMATED.items()
    )
    loads = span((row["load_average"] for row in rows), ".0f")
    return (
        f"{lines}\n\nMeasured over predicted. Within 25%: {within}. {source(ESTIMATE)}; load "
        f"average {loads}, other work kept off by Linux's autogroups. Of several rounds that one "
        "counts in which the load generator was least late."
    )


def predictor() -> str:
    """What an answer of a student that is no language model takes, by kind."""
    measured = result(PREDICTOR)
    kinds = [
        {**row, "n": {str(part["connections"]): part for part in row["connections"]}}
        for row in measured["kinds"]
    ]
    lines = columns(
        kinds,
        ("kind", "`{kind}`"),
        ("alone: CPU ms", lambda row: f"{row['n']['1']['cpu_ms']:.2g}"),
        ("p95, ms", lambda row: f"{row['n']['1']['p95_ms']:.2g}"),
        ("16 at once: answers a second", lambda row: f"{row['n']['16']['per_core_s']:,}"),
        ("bundle, MiB", "{bundle_mib:.0f}"),
        ("memory, MiB", "{memory_mib}"),
    )
    cut = result(CUT)
    [static] = cut["kinds"]
    n_equal, n = static["as_with_the_whole_table"]
    return (
        f"{lines}\n\nBanking77: students of {measured['rows']:,} rows and {measured['labels']} "
        f"labels, asked test rows of {measured['mean_characters']:.0f} characters on one core. "
        f"{source(PREDICTOR)} (`benchmarks/serving/predictor.py`). With the tokens of its rows "
        f"alone, {cut['rows']} of {cut['labels']} labels, the bundle of `static` has "
        f"{static['bundle_mib']:.2f} MiB and answers {n_equal} of {n} test rows as with its whole "
        f"table. {source(CUT)} (`--vocabulary 0`)."
    )


def operated() -> str:
    """What is lost while a hosted student is replaced or killed, and what that costs."""
    measured = result(OPERATED)
    lost = {name: f"{measured[name]['lost']} of {measured[name]['requests']}" for name in _OPERATED}
    return (
        f"Requests lost behind a door at {measured['plain']['per_s']:.0f} a second: while the "
        f"student was replaced {lost['swap']}, on the way back {lost['back']}, with its engine "
        f"killed {counted(measured['kills']['events'], 'time')} {lost['kills']} (longest wait "
        f"{measured['kills']['longest_s']:.1f} s). The process in front takes "
        f"{100 * measured['idle_cores']:.2f}% of a core when idle, and "
        f"{measured['cpu_ms']['proxy']:.1f} CPU ms a request. {source(OPERATED)} "
        "(`benchmarks/serving/operated.py`)."
    )


_OPERATED = ("plain", "swap", "back", "kills")

BLOCKS = {
    "operated": operated,
    "answers": answers,
    "format_loss": format_loss,
    "engine_estimate": engine_estimate,
    "predictor": predictor,
}
