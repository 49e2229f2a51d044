"""The table of README: each row from a raw result, as a range over what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from figures_of.runs import clients_of
from figures_of.tables import result, source, span, table
from figures_of.training import HEAD, SFT, SFT_CASES, STEP, STEP_CASES, peer_speeds

Row = tuple[str, str, str]
"""What was measured, how it came out, and the target."""


def _scale(cases: Any) -> Iterator[Row]:
    yield (
        "plan over 90,000 real catalog rows × 12 students × 8 teachers, cold cache, warm cache "
        "(`benchmarks/planner/scale.py`)",
        "{real-cold[total]:.1f}, {real-warm[total]:.1f} CPU s; "
        "{real-warm[peak MiB]} MiB".format_map(cases),
        "10, 2 s",
    )
    yield (
        "plan over 1,000,000 synthetic offers; over 3,700 private nodes at 2,000 requests/s; "
        "over the real rows at 20 requests/s in 3 sizes",
        "{million[total]:.1f}; {private[total]:.1f}; {real-rate[total]:.1f} CPU s".format_map(
            cases
        ),
        "15; 5; 2 s",
    )


def _optima(chains: Any) -> Iterator[Row]:
    done = [chain for chain in chains if chain["theirs_usd"] is not None]
    n_open = len(chains) - len(done)
    yield (
        f"plan vs SkyPilot's optimizer on {len(done)} task chains and diamonds "
        "(`benchmarks/planner/peers.py`)",
        f"same optima; ours in {span((chain['ours_s'] for chain in chains), '.2f')} s, "
        f"theirs in {span((chain['theirs_s'] for chain in done), '.2f')} s"
        + (f", {n_open} did not finish" if n_open else ""),
        "same",
    )


def _step(shapes: Any) -> Iterator[Row]:
    n_shapes = len({name.partition(", ")[0] for name in shapes})
    memories = (shape["stratos_memory_over"]["trl GKD"] for shape in shapes.values())
    yield (
        f"distillation step, tokens per CPU s, {n_shapes} shapes (`benchmarks/training/step.py`), "
        "vs TRL's GKDTrainer; vs a plain loop; vs a plain loop with TRL's chunked loss",
        peer_speeds(STEP, STEP_CASES[1:]),
        "2×; 1.5×; –",
    )
    yield (
        "peak memory of the step, as a share of TRL's GKDTrainer",
        f"{span(memories, '.2f')}×",
        "0.33×",
    )


def _sft(students: Any) -> Iterator[Row]:
    n_students = len({name.partition(", ")[0] for name in students})
    yield (
        f"fine-tuning, {n_students} students (`benchmarks/training/sft.py`), vs TRL's SFTTrainer "
        "packed (no fast attention on a CPU); vs the same sorted by length; vs a plain loop",
        peer_speeds(SFT, SFT_CASES),
        "1.5× the best",
    )


def _head(settings: Any) -> Iterator[Row]:
    def over(objective: str, key: str) -> str:
        best = [row["best"] for row in settings if row["objective"] == objective]
        return span(row["trl GKD"][key] / row["stratos"][key] for row in best)

    objectives = dict.fromkeys(row["objective"] for row in settings)
    yield (
        "head and loss vs TRL's GKD (`benchmarks/training/head.py`): CPU seconds and memory of "
        "forward KL; of JSD",
        "; ".join(f"{over(name, 'cpu_s')}×, {over(name, 'mib')}×" for name in objectives),
        "2.4×, 5×; 4×, 8×",
    )


def _cache(measured: Any) -> Iterator[Row]:
    yield (
        "speed of an epoch from the logits cache vs the first epoch; vs asking the teacher again "
        "(`benchmarks/training/cache.py`)",
        "{later_epoch_over_first:.1f}×; {cache_over_online:.1f}×".format_map(measured),
        "3×",
    )


def _throughput(measured: Any) -> Iterator[Row]:
    clients = clients_of(measured)
    yield (
        f"{measured['n']:,} requests of {1000 * measured['delay_s']:.0f} ms "
        "(`benchmarks/teachers/throughput.py`), share of ideal throughput",
        "; ".join(f"{name}: {client['share']:.1%}" for name, client in clients.items()),
        "95%",
    )
    yield (
        "the same, with every tenth request failing",
        "; ".join(f"{name}: {row['faults']['wall_s']:.1f} s" for name, row in clients.items()),
        "–",
    )


def _generation(measured: Any) -> Iterator[Row]:
    cases = {n: batch["ways"]["model.generate"] for n, batch in measured["batches"].items()}
    ratios = ", ".join(f"{case['ratio']:.1f}× (batch of {n})" for n, case in cases.items())
    yield (
        "greedy decoding of a Mahjong student vs `model.generate`, tokens per CPU s "
        "(`benchmarks/training/decoding.py`)",
        f"{ratios}; {min(case['same'] for case in cases.values()):.0%} equal",
        "–",
    )


def _startup(measured: Any) -> Iterator[Row]:
    yield (
        "start-up of `--help`, `--cfg job` vs a bare Hydra app (`benchmarks/product/startup.py`)",
        ", ".join(f"{measured[name]['ratio']:.2f}×" for name in ("--help", "--cfg job")),
        "1.5×",
    )
    yield (
        "`stages=[plan]` with a cached probe, whole process",
        "{cpu_s:.1f} CPU s, {wall_s:.1f} s".format_map(measured["plan"]),
        "3 s",
    )


def _corpus(measured: Any) -> Iterator[Row]:
    yield (
        f"corpus of {measured['items']:,} verified, deduplicated Mahjong items "
        "(`benchmarks/tasks/corpus.py`)",
        "{wall_s:.0f} s, {cpu_s:.0f} CPU s".format_map(measured),
        "60 s",
    )


def _engine(measured: Any) -> Iterator[Row]:
    yield (
        "reverse generation, every step verified (`benchmarks/tasks/mahjong_engine.py`)",
        f"{measured['items_per_s_a_core']:,.0f} items/s a core",
        "2,000",
    )
    yield (
        "Mahjong engine vs the package `mahjong` (same script)",
        f"agrees on {measured['agree']:,} of {measured['hands']:,} hands",
        "all",
    )


ROWS: dict[str, Callable[[Any], Iterator[Row]]] = {
    "planner/scale": _scale,
    "planner/peers": _optima,
    STEP: _step,
    SFT: _sft,
    HEAD: _head,
    "distillation/cache_topk": _cache,
    "teachers/throughput": _throughput,
    "generation": _generation,
    "startup": _startup,
    "corpus/mahjong": _corpus,
    "mahjong_engine": _engine,
}
"""Rows by raw result."""


def peers() -> str:
    """What README says beside public peers, and of our own speed."""
    rows = [row for name, rows_of in ROWS.items() for row in rows_of(result(name))]
    return f"{table(('what', 'measured', 'target'), rows)}\n\n{source(*ROWS)}."


BLOCKS = {"peers": peers}
