"""Serving engines and formats beside each other: `engines.py`."""

from __future__ import annotations

import record

from figures_of.common import source, span, table
from stratos.core.formats import counted

RESULT = "serving/exports"
VLLM = "serving/vllm"
HEAD = (
    "student", "engine", "ms alone, p50", "requests/s, 8 at once", "CPU ms a token", "MiB",
    "same text",
)  # fmt: skip
LOSS = "serving/format_loss"
ENDURANCE = "serving/endurance"
ESTIMATE = "serving/estimate"
PEER = "serving/load_peer"
KEEPING_UP = "serving/keeping_up"
FORMAT_RULE = "serving/format_rule"
PREDICTOR = "serving/predictor"
ESTIMATED = {"answer_ms": "alone", "requests_per_s": "requests/s", "p95_ms": "p95"}
STUDENTS = {
    "shape 300k": "0.3M parameters, random weights, 160 tokens",
    "shape 1m": "0.9M parameters, random weights, 160 tokens",
    "shape 2m": "1.9M parameters, random weights, 160 tokens",
    "mahjong_1m": "0.9M parameters, trained on Mahjong",
    "mahjong_300k": "0.3M parameters, trained on Mahjong",
}
MODELS = {
    "stratos_1m, untrained": "shape of the 1M Mahjong student, random weights, 160 tokens",
    "sums": "300k parameters, trained, 2 tokens",
    "sql": "SmolLM2-135M, trained, 21 tokens",
}


def engines() -> str:
    """Return a row for each engine and format: the range over rounds."""
    kept = record.load(RESULT)
    lines, n_rounds = _rows(RESULT)
    rounds = counted(n_rounds, "round")
    return (
        f"{table(HEAD, lines)}\n\n{source(RESULT)}; {rounds} of all engines in turn, "
        f"with other work on the machine (load average {kept['load_average']:.0f}): compare the "
        "engines, not the numbers with those of an idle machine. The same text is that of the "
        "evaluation, or of transformers for random weights: what these answer is decided by a "
        "hair, so that rounding to q8_0 changes all of it."
    )


def vllm() -> str:
    """Return a row for each engine and format, vLLM among them."""
    kept = record.load(VLLM)
    lines, n_rounds = _rows(VLLM)
    rounds = counted(n_rounds, "round")
    others = span((row["others_cores"] for row in kept["result"]["rows"]), ".1f")
    return (
        f"{table(HEAD, lines)}\n\n{source(VLLM)}, vLLM {kept['engines']['vllm']} on a CPU; "
        f"{rounds}. Other work took {others} cores while each row was measured, "
        "and least beside vLLM: compare the CPU milliseconds."
    )


def _rows(result: str) -> tuple[list[tuple[str, ...]], int]:
    """Return a row for each engine and format of a result, and the number of rounds."""
    kept = record.load(result)
    rows: dict[tuple[str, str], list[dict]] = {}
    for row in kept["result"]["rows"]:
        rows.setdefault((row["model"], row["engine"]), []).append(row)
    lines = []
    for model, title in MODELS.items():
        for (name, engine), found in rows.items():
            if name != model:
                continue
            same = f"{found[0]['equal']} of {found[0]['items']}"
            lines.append(
                (
                    title,
                    engine,
                    span((one["p50_ms"] for one in found), ".0f"),
                    span((one["requests_per_s"] for one in found), ".3g"),
                    span((one["cpu_ms_per_token"] for one in found), ".2f"),
                    span((one["memory_mib"] for one in found), ".0f"),
                    same,
                )
            )
            title = ""
    return lines, max(len(found) for found in rows.values())


def format_loss() -> str:
    """Return a row for each student and format: what the stage `deploy` measured."""
    kept = record.load(LOSS)
    head = ("student", "format", "MB", "right", "points lost, 95% interval", "p", "same text")
    lines = []
    for one in kept["result"]:
        title = f"{one['student']}, {one['train_tokens'] / 1e6:.0f}M tokens of {one['task']}"
        for form in one["formats"]:
            loss = form["loss_points"]
            lines.append(
                (
                    title,
                    form["format"],
                    f"{form['n_bytes'] / 1e6:.2f}",
                    f"{form['exact']['mean']:.1%}",
                    f"{loss['mean']:.1f} [{loss['low']:.1f}, {loss['high']:.1f}]",
                    f"{form['p_value']:.2g}",
                    f"{form['n_equal']:,} of {form['n_items']:,}",
                )
            )
            title = ""
    return f"{table(head, lines)}\n\n{source(LOSS)}; test items of the evaluation, asked over HTTP."


def endurance() -> str:
    """Return what a server showed over many requests."""
    kept = record.load(ENDURANCE)["result"]
    first, last = kept["parts"][1], kept["parts"][-1]
    errors = sum(kept["errors"].values())
    return (
        f"{kept['requests']:,} requests to the shape of the 1M Mahjong student in "
        f"{kept['format']}, {kept['in_flight']} at once, {kept['seconds'] / 60:.0f} minutes: "
        f"{errors} errors, memory "
        f"{first['memory_mib']:.1f} MiB after a tenth and {last['memory_mib']:.1f} MiB at the end "
        f"({kept['memory_growth']:+.1%}), {last['open_files']} open files, "
        f"{last['log_bytes']:,} bytes of log. {source(ENDURANCE)}, with other work on the machine "
        "(`python benchmarks/serving/endurance.py`)."
    )


def engine_estimate() -> str:
    """Return a row for each student, engine and format: measured over rounds, and predicted."""
    kept = record.load(ESTIMATE)
    rows: dict[tuple[str, ...], list[dict]] = {}
    for row in kept["result"]:
        rows.setdefault((row["student"], row["engine"], row["format"]), []).append(row)
    head = ("student", "engine", "answer alone, ms", "predicted", "requests/s", "predicted",
            "p95 at 70%, ms", "predicted", "off by more than 25%")  # fmt: skip
    lines, titles, counts = [], set(), dict.fromkeys(ESTIMATED, 0)
    order = list(dict.fromkeys(student for student, _, _ in rows))
    by_student = sorted(rows.items(), key=lambda row: order.index(row[0][0]))
    for (student, engine, form), found in by_student:
        # The round in which other work disturbed least: the generator was least late.
        calm = min(found, key=lambda row: row["latest_ms"])
        missed = [
            title
            for name, title in ESTIMATED.items()
            if abs(calm[f"{name}_predicted"] / calm[name] - 1) > 0.25
        ]
        for name, title in ESTIMATED.items():
            counts[name] += title not in missed
        cells = []
        for name, form_of in zip(ESTIMATED, (".0f", ".3g", ".0f"), strict=True):
            cells += [
                span((row[name] for row in found), form_of),
                format(calm[f"{name}_predicted"], form_of),
            ]
        title = "" if student in titles else STUDENTS.get(student, student)
        titles.add(student)
        named = f"{engine} {form}".strip().replace("llamacpp", "llama.cpp")
        lines.append((title, f"{named}, {calm['at_once']} at once", *cells, ", ".join(missed)))
    within = "; ".join(
        f"{ESTIMATED[name]} {count} of {len(rows)}" for name, count in counts.items()
    )
    loads = span((row["load_average"] for row in kept["result"]), ".0f")
    return (
        f"{table(head, lines)}\n\nWithin 25%: {within}. {source(ESTIMATE)}; load average {loads}, "
        "other work kept off by Linux's autogroups. Of several rounds the range is shown, and that "
        "one judged in which the load generator was least late."
    )


def keeping_up() -> str:
    """Return how often the load test is right, by requests of a part and share of the capacity."""
    rows = record.load(KEEPING_UP)["result"]
    shares = sorted({row["share"] for row in rows})
    head = ("requests of a part", *(f"{share:.0%}" for share in shares), "parts")
    lines = []
    for n in sorted({row["requests"] for row in rows}):
        found = {row["share"]: row for row in rows if row["requests"] == n}
        cells = [
            f"{row['right'] / row['tests']:.0%} · {row['sure_and_wrong'] / row['tests']:.1%}"
            for row in (found[share] for share in shares)
        ]
        lines.append((str(n), *cells, span(row["mean_parts"] for row in found.values())))
    tests = rows[0]["tests"]
    return (
        f"{table(head, lines)}\n\nRight verdicts · sure and wrong ones, of {tests:,} simulated "
        "tests each: 1, 4 and 16 slots; uniform, exponential and lognormal times of an answer "
        "(`benchmarks/serving/keeping_up.py`)."
    )


def format_rule() -> str:
    """Return how often a format is left out or shown to be good, by items and true loss."""
    rows = record.load(FORMAT_RULE)["result"]
    losses = sorted({row["points"] for row in rows})
    head = ("items", *(f"{points:g} points lost" for points in losses))
    lines = []
    for n in sorted({row["items"] for row in rows}):
        found = {row["points"]: row for row in rows if row["items"] == n}
        cells = [
            f"{row['loses']:.1%} · {row['shown']:.1%} ({row['estimate_within']:.0%})"
            for row in (found[points] for points in losses)
        ]
        lines.append((f"{n:,}", *cells))
    return (
        f"{table(head, lines)}\n\nLeft out · shown to lose no more than 1 point (in brackets: the "
        "estimate alone is within 1 point). The others are kept with a warning that this is not "
        "shown. Exact probabilities; besides the points lost, 0.5% of the items change each way "
        "(`benchmarks/serving/format_rule.py`)."
    )


def load_peer() -> str:
    """Return the load generator of `deploy` beside AIPerf: rate, gaps and times, over rounds."""
    kept = record.load(PEER)
    told = kept["result"]
    head = ("generator", "sent a second", "variation of gaps", "p50, ms", "p95, ms", "errors")
    lines = []
    for name, title in (("stratos", "`deploy`"), ("aiperf", "AIPerf")):
        found = [row for row in told["rows"] if row["generator"] == name]
        lines.append(
            (
                title,
                *(
                    span((row[key] for row in found), form)
                    for key, form in (
                        ("sent_per_s", ".3g"), ("gap_variation", ".2f"), ("p50_ms", ".0f"),
                        ("p95_ms", ".0f"),
                    )
                ),
                str(sum(row["errors"] for row in found)),
            )
        )  # fmt: skip
    return (
        f"{told['requests']} held-out questions at {told['rate']:g} a second to llama.cpp, in "
        f"turns (`benchmarks/serving/load_peer.py`):\n\n{table(head, lines)}\n\n{source(PEER)}."
    )


def predictor() -> str:
    """Return what an answer of a student that is no language model takes, by kind."""
    kept = record.load(PREDICTOR)
    told = kept["result"]
    head = (
        "kind", "alone: CPU ms", "p95, ms", "answers a second of a core: alone", "16 at once",
        "`deploy`'s client: p95, ms", "bundle, MiB", "memory, MiB",
    )  # fmt: skip
    lines = []
    for row in told["kinds"]:
        by_n = {one["connections"]: one for one in row["connections"]}
        lines.append(
            (
                f"`{row['kind']}`",
                f"{by_n[1]['cpu_ms']:.2g}",
                f"{by_n[1]['p95_ms']:.2g}",
                f"{by_n[1]['per_core_s']:,}",
                f"{by_n[16]['per_core_s']:,}",
                f"{row['deploys_client']['closed_1']['p95_ms']:.2g}",
                f"{row['bundle_mib']:.0f}",
                str(row["memory_mib"]),
            )
        )
    loads = span(
        (one["load_average"] for row in told["kinds"] for one in row["connections"]), ".0f"
    )
    return (
        f"{table(head, lines)}\n\nBanking77: students of {told['rows']:,} rows and "
        f"{told['labels']} labels, asked test rows of {told['mean_characters']:.0f} characters "
        "over connections that stay open, each again at once, with log-probabilities; then by the "
        f"load generator of `deploy`, one at a time. {source(PREDICTOR)}; "
        f"load average {loads}: CPU times hold on a busy machine, p95 does not "
        "(`benchmarks/serving/predictor.py`)."
    )


BLOCKS = {
    "predictor": predictor,
    "load_peer": load_peer,
    "keeping_up": keeping_up,
    "format_rule": format_rule,
    "engine_estimate": engine_estimate,
    "engines": engines,
    "vllm": vllm,
    "format_loss": format_loss,
    "endurance": endurance,
}
